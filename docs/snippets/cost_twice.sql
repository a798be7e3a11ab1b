select day, table_name, syncs
from rows_per_day
order by syncs desc, day desc
limit 20;
