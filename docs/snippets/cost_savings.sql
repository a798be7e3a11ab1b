select table_name, sum(syncs) / count(distinct day) as syncs_a_day, sum(rows_billed) // sum(syncs) as rows_a_sync
from rows_per_day
group by table_name
order by rows_a_sync * syncs_a_day desc;
