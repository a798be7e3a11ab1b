"""The operations as jobs in the Dagster UI. The launchpad offers the fields of each operation's `Params`."""

from collections.abc import Callable, Generator, Iterator
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import Field, create_model
from pydantic.fields import FieldInfo

from dw_orchestration.assets.config import PostHogSyncConfig
from dw_orchestration.assets.resync_guard import UNATTENDED_TAGS
from dw_orchestration.operations.operation import Operation, Params
from dw_orchestration.operations.project import Project
from dw_orchestration.operations.registry import OPERATIONS
from dw_orchestration.operations.report import Report
from dw_orchestration.operations.resync import AssetEvent, ResyncParams, resync_tables
from dw_orchestration.operations.secrets import Secrets, refuse_written_out
from dw_orchestration.posthog.errors import PostHogError
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError, SnapshotError, UsageError
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import visible_lines

# what Dagster puts on every re-execution
_PARENT_TAG = "dagster/parent_run_id"
# the launchpad shows the choices of a setting only if None is not one of them
UNCHANGED = "unchanged"

# what a job may add to the event log before its report
Work = Generator[AssetEvent, None, Report]
Run = Callable[[dg.OpExecutionContext, Project, Any, WarehouseResource], Work]


def build_maintenance_jobs(
    tables: Tables,
    *,
    sync_defaults: PostHogSyncConfig | None = None,
) -> list[dg.JobDefinition]:
    """The jobs `<resource_key>_<operation>`, each for the tables that PostHog has when it runs.

    The log of the run has the result, and the metadata of the step's output has it as a table.

    Args:
        tables: The tables of the project, for their asset keys.
        sync_defaults: Defaults of a resync, as for `build_posthog_assets`.
    """
    jobs = [_job(operation, _plain_run(operation), tables) for operation in OPERATIONS if operation.has_job]
    return [*jobs, _job(RESYNC, _resync_run(tables, sync_defaults or PostHogSyncConfig()), tables)]


def _refused_run(*_: Any, **__: Any) -> Report:
    raise NotImplementedError("A resync needs the context of a run: see `_resync_run`.")


# not in the registry, because `dw sync --resync` shows progress and answers Ctrl-C
RESYNC = Operation(
    name="resync_tables",
    command="sync --resync",
    params=ResyncParams,
    run=_refused_run,
    deletes=True,
    description="Drop tables in PostHog and import all of their rows again, which PostHog bills. PostHog cancels"
    " their running"
    " syncs first. `confirm` has to repeat the names of the tables.",
)


def _plain_run(operation: Operation) -> Run:
    def run(_: dg.OpExecutionContext, project: Project, params: Params, __: WarehouseResource) -> Work:
        yield from ()
        return operation.carry_out(project, params)

    return run


def _resync_run(tables: Tables, sync_defaults: PostHogSyncConfig) -> Run:
    def run(
        context: dg.OpExecutionContext, project: Project, params: ResyncParams, warehouse: WarehouseResource
    ) -> Work:
        return (
            yield from resync_tables(
                context, project, params, warehouse=warehouse, tables=tables, sync_defaults=sync_defaults
            )
        )

    return run


def _job(operation: Operation, run: Run, tables: Tables) -> dg.JobDefinition:
    name = f"{tables.resource_key}_{operation.name}"
    # untyped, as Dagster does not name its type in public
    config_schema: Any = config_of(operation.params).to_config_schema()

    # Dagster requires the names of jobs and ops in a code location to be different
    @dg.op(
        name=f"{name}_step",
        description=operation.description,
        config_schema=config_schema,
        required_resource_keys={tables.resource_key},
        out=dg.Out(dg.Nothing),
    )
    def step(context: dg.OpExecutionContext) -> Iterator[AssetEvent | dg.Output[None]]:
        if operation.deletes:
            _refuse_unattended(context)
        warehouse: WarehouseResource = getattr(context.resources, tables.resource_key)
        report = yield from _carry_out(context, operation, run, warehouse=warehouse, tables=tables)
        yield dg.Output(None, metadata=_result_metadata(context, report))

    @dg.job(
        name=name,
        description=operation.description,
        config=_refusing_secrets(operation, step.name, config_schema),
        tags=tables.run_tags,
    )
    def job() -> None:
        step()

    return job


def _refusing_secrets(operation: Operation, step: str, config_schema: Any) -> Any:
    """What checks the config before there is a run: Dagster stores a run with its config, and only then starts it."""
    payloads = list(operation.payloads())
    if not payloads:
        return None

    def checked(config: dict[str, Any]) -> dict[str, Any]:
        given = config["ops"][step]["config"]
        try:
            for name in payloads:
                refuse_written_out(given.get(name) or {})
        except UsageError as error:
            # an error of Dagster's, as it would put its own text in front of any other
            raise dg.DagsterInvariantViolationError(str(error)) from None
        return config

    others = {name: dg.Field(dict, is_required=False) for name in ("resources", "execution", "loggers")}
    return dg.ConfigMapping(checked, config_schema={"ops": {step: {"config": config_schema.as_field()}}, **others})


def _carry_out(
    context: dg.OpExecutionContext,
    operation: Operation,
    run: Run,
    *,
    warehouse: WarehouseResource,
    tables: Tables,
) -> Work:
    """Do it. A failure has the sentence of the error, without the traceback and without any secret."""
    secrets = Secrets()
    try:
        params = _params(operation, context.op_config or {}, secrets)
        with warehouse.client() as client:
            key_paths = {table.id: table.key_path for table in tables}
            project = Project(client, warehouse.name, key_paths)
            report = yield from run(context, project, params, warehouse)
            return report.with_texts(secrets.hidden)
    except (PostHogError, SetupError, SnapshotError) as error:
        failure = dg.Failure(description=visible_lines(secrets.hidden(error.text)), allow_retries=False)
    # raised outside the handler: the error that stays attached as the context may quote a secret
    raise failure


def config_of(params: type[Params]) -> type[dg.Config]:
    """The launchpad's config for an operation: the same fields, with the same defaults and descriptions."""
    fields: dict[str, Any] = {name: _config_field(field) for name, field in params.model_fields.items()}
    return create_model(f"{params.__name__}Config", __base__=dg.Config, __doc__=params.__doc__, **fields)


def _config_field(field: FieldInfo) -> tuple[Any, Any]:
    annotation: Any = field.annotation
    default = ... if field.is_required() else field.default
    if choices := _optional_choices(annotation):
        annotation, default = Literal[(UNCHANGED, *choices)], UNCHANGED
    return annotation, Field(default=default, description=field.description)


def _optional_choices(annotation: Any) -> tuple[str, ...]:
    """The choices of `Literal[...] | None`; empty for any other type."""
    options = get_args(annotation)
    if type(None) not in options:
        return ()
    return next((get_args(option) for option in options if get_origin(option) is Literal), ())


def _params(operation: Operation, config: dict[str, Any], secrets: Secrets) -> Params:
    """What was set in the launchpad, with the values of the environment variables that it names."""
    given = {
        name: value
        for name, value in config.items()
        if not (value == UNCHANGED and _optional_choices(operation.params.model_fields[name].annotation))
    }
    for name in operation.payloads():
        if given.get(name):
            given[name] = secrets.values(given[name], lookup=lambda variable: dg.EnvVar(variable).get_value())
    return operation.params.model_validate(given)


def _result_metadata(context: dg.OpExecutionContext, report: Report) -> dict[str, dg.MetadataValue]:
    """The report as metadata; a failed report fails the run with it."""
    metadata: dict[str, dg.MetadataValue] = {
        "summary": dg.MetadataValue.text(visible_lines(report.summary)),
        "result": dg.MetadataValue.md(report.markdown()),
    }
    context.log.info(str(report))
    if report.failed:
        raise dg.Failure(visible_lines(report.summary), metadata=metadata, allow_retries=False)
    return metadata


def _refuse_unattended(context: dg.OpExecutionContext) -> None:
    """Only a person may delete data, and has to launch a new run for each deletion."""
    if found := [tag for tag in UNATTENDED_TAGS if tag in context.run.tags]:
        why = f"this run is tagged {found[0]}. Launch the job manually"
    elif context.retry_number > 0 or _PARENT_TAG in context.run.tags:
        why = "this run is a retry or re-execution. Check what is left, and launch a new run"
    else:
        return
    raise dg.Failure(f"Refusing to delete data: {why}.", allow_retries=False)
