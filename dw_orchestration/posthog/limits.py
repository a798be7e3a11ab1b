"""PostHog's numbers, each in one place: what its server allows, caps or waits for.

They are facts of PostHog's server, not settings of this package. A module that depends on one imports it from here.
"""

from datetime import timedelta

JOBS_PER_ANSWER = 50
"""The jobs endpoint returns at most the 50 newest jobs that match. It has no paging keys."""

ROWS_PER_PAGE = 100
"""Sources and schemas per page of a list. PostHog's own default; it sets no maximum."""

NAMES_PER_REQUEST = 50
"""Table names in one `schemas` filter of the jobs endpoint.

PostHog sets no maximum, but the names are part of the address, and common proxies refuse a request line of more than
8 KB. Fifty names of 100 characters still fit.
"""

LONGEST_NAMES = 6000
"""Bytes of such names in one address, as they are escaped there: a letter with an accent takes six."""

REQUESTS_PER_MINUTE = 480
REQUESTS_PER_HOUR = 4800
"""PostHog's rate limits for one API key. PostHog Cloud enforces them; self-hosted servers often do not."""

LONGEST_RATE_WINDOW_S = 3600.0
"""PostHog counts requests in a minute and in an hour, so no wait for its rate limits is longer."""

DEFAULT_REQUESTS_PER_MINUTE = REQUESTS_PER_MINUTE // 2
DEFAULT_REQUESTS_PER_HOUR = REQUESTS_PER_HOUR // 2
"""Half of PostHog's limits, so that everything else that uses the key keeps the other half."""

# A worker takes the time for `created_at` just before it inserts the row, and many workers insert side by side. So a
# row can become visible after a newer one: by the duration of the insert, plus the difference between two workers'
# clocks, plus the lag of a read replica. Each of these is normally far below a second, and seconds when the database
# is under load. PostHog states no bound. A reader that starts exactly at its newest known row misses the late one
# permanently, whereas rows that are read twice are recognized by their id. So the number is generous: two minutes
# cover any clock difference and lag with which PostHog itself still works. It is not larger, because each poll reads
# the rows of this span again: a project with a thousand 5-minute tables creates 400 rows (8 answers) in two minutes.
LATE_ROWS = timedelta(minutes=2)
"""How long after a newer job's `created_at` an older job may still appear in the list of jobs."""

INSTANT = timedelta(microseconds=1)
"""PostHog stores microseconds and compares `after` and `before` strictly. An inclusive filter is this wider."""

FULL_REFRESH_LEAD = timedelta(hours=1)
"""A scheduled sync that starts this long before a full refresh is due, or later, is the full refresh."""

STREAK_LENGTH = 5
STREAK_GAP = timedelta(minutes=10)
LONGEST_STREAK_GAP = timedelta(hours=1)
"""After 5 failed jobs in a row PostHog defers a table's syncs: for 10 minutes after the last failure, doubling with
each further failure up to an hour. It accepts a reload meanwhile, but creates no job."""

ABANDONED_AFTER = timedelta(days=7)
"""PostHog lets an import run for up to a week. A job that still shows Running after that lost its worker and never
ends, so it must not hold up new syncs."""

QUERIES_PER_MINUTE = 240
QUERIES_PER_HOUR = 2400
"""PostHog's rate limits for queries of one API key. Older servers allow 120 an hour, and answer 429 beyond that."""

DEFAULT_QUERIES_PER_MINUTE = QUERIES_PER_MINUTE // 2
DEFAULT_QUERIES_PER_HOUR = QUERIES_PER_HOUR // 2
"""Half of PostHog's limits for queries, too."""

ROWS_PER_QUERY = 50_000
"""The most rows in the answer to a query. PostHog leaves out the others without an error."""
