select table_name, sum(failures) as failures, sum(rows_billed_of_failures) as rows
from rows_per_day
group by table_name
having failures > 0
order by rows desc;
