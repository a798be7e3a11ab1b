select source_type, prefix, table_name, rows_billed, round(100 * share, 1) as percent
from top_tables
order by rows_billed desc
limit 5;
