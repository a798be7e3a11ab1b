select day, table_name, rows_billed,
    median(rows_billed) over (partition by schema_id) as usual
from rows_per_day
qualify rows_billed > 3 * usual
order by day desc, rows_billed desc;
