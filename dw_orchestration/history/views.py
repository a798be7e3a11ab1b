"""Views of the sync history that answer what people ask of it: rows per day, and the tables with the most rows."""

VIEWS = {
    "rows_per_day": """
        select
            project,
            cast(created_at as date) as day,
            source_type,
            prefix,
            table_name,
            schema_id,
            count(*) as syncs,
            sum(case when is_over and status <> 'Completed' then 1 else 0 end)::bigint as failures,
            sum(coalesce(rows_synced, 0))::bigint as rows_synced,
            sum(case when billable is not false then coalesce(rows_synced, 0) else 0 end)::bigint as rows_billed,
            sum(case
                when billable is not false and is_over and status <> 'Completed' then coalesce(rows_synced, 0)
                else 0
            end)::bigint as rows_billed_of_failures
        from sync_history
        group by project, cast(created_at as date), source_type, prefix, table_name, schema_id
    """,
    # counted back from the last reading: what was not read yet is not missing then
    "top_tables": """
        select
            days.project,
            days.source_type,
            days.prefix,
            days.table_name,
            days.schema_id,
            sum(days.syncs)::bigint as syncs,
            sum(days.failures)::bigint as failures,
            sum(days.rows_billed)::bigint as rows_billed,
            sum(days.rows_billed) / nullif(sum(sum(days.rows_billed)) over (partition by days.project), 0) as share
        from rows_per_day as days
        join (select project, cast(max(read_at) as date) as day from sync_history group by project) as newest
            on newest.project = days.project and days.day > newest.day - 30
        group by days.project, days.source_type, days.prefix, days.table_name, days.schema_id
        order by days.project, rows_billed desc
    """,
}
"""The queries by the names of their views. Days are in UTC, by the start of a sync."""
