"""The operations as jobs in the Dagster UI. The launchpad offers the fields of each operation's `Params`."""

import json
from collections.abc import Callable, Generator, Iterator
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import dagster as dg
from pydantic import ValidationError
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
from dw_orchestration.resources.failure import PlainError, plain_failure
from dw_orchestration.resources.warehouse import WarehouseResource
from dw_orchestration.tables.errors import SetupError, SnapshotError, UsageError
from dw_orchestration.tables.tables import Tables
from dw_orchestration.text import visible_lines

# what Dagster puts on every re-execution
_PARENT_TAG = "dagster/parent_run_id"
# how an empty form shows what nobody has filled in
_EMPTY: dict[Any, Any] = {str: "", list: [], dict: {}}

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
    config_schema = config_of(operation.params)

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
        description=f"{operation.description.strip()}\n\n{_example(operation, step.name)}",
        config=_refusing_secrets(operation, step.name, config_schema),
        tags=tables.run_tags,
    )
    def job() -> None:
        step()

    return job


def _example(operation: Operation, step: str) -> str:
    """A config for the launchpad, as Markdown."""
    fields = operation.params.model_fields
    lines = [f"      {_example_of(name, field)}" for name, field in fields.items() if field.examples]
    config = "\n".join([f"ops:\n  {step}:\n    config:", *lines])
    return f"Example of its config in the launchpad:\n\n```yaml\n{config}\n```"


def _example_of(name: str, field: FieldInfo) -> str:
    """A line of YAML."""
    return f"{name}: {json.dumps(next(iter(field.examples or ())))}"


def _refusing_secrets(operation: Operation, step: str, config_schema: dict[str, dg.Field]) -> Any:
    """What checks the config before there is a run: Dagster stores a run with its config, and only then starts it."""
    payloads = list(operation.payloads())
    if not payloads:
        return None

    def checked(config: dict[str, Any]) -> dict[str, Any]:
        given = config["ops"][step]["config"]
        try:
            for name in payloads:
                if isinstance(given[name], dict):
                    refuse_written_out(given[name])
        except UsageError as error:
            raise PlainError(str(error)) from None
        return config

    others = {name: dg.Field(dict, is_required=False) for name in ("resources", "execution", "loggers")}
    return dg.ConfigMapping(checked, config_schema={"ops": {step: {"config": config_schema}}, **others})


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
        failure = plain_failure(visible_lines(secrets.hidden(error.text)))
    # raised outside the handler: the error that stays attached as the context may quote a secret
    raise failure


def config_of(params: type[Params]) -> dict[str, dg.Field]:
    """The fields of the launchpad, each with its default: Dagster writes only those with one into an empty form."""
    return {
        name: dg.Field(
            _config_type(field, name=f"{params.__name__}_{name}", left_out=params.left_out),
            default_value=_prefilled(field, left_out=params.left_out),
            description=field.description,
        )
        for name, field in params.model_fields.items()
    }


def _config_type(field: FieldInfo, *, name: str, left_out: str) -> Any:
    """Dagster's type for a field; that of an optional one includes the word for what is left out."""
    kind, is_optional = _without_none(field.annotation)
    if get_origin(kind) is Literal:
        choices = (left_out, *get_args(kind)) if is_optional else get_args(kind)
        return dg.Enum(name, [dg.EnumValue(each) for each in choices])
    if get_origin(kind) is dict:
        return dict
    if not (is_optional and left_out):
        return [str] if get_origin(kind) is list else kind
    # Dagster has no union of a text and a number
    return dg.Any if kind in (int, bool) else dg.ScalarUnion(str, [str]) if get_origin(kind) is list else kind


def _prefilled(field: FieldInfo, *, left_out: str) -> Any:
    """What an empty form has for a field: never None, as Dagster leaves such fields out."""
    kind, _ = _without_none(field.annotation)
    if not field.is_required() and field.default is not None:
        return field.default
    is_word = left_out and not field.is_required() and get_origin(kind) is not dict
    return left_out if is_word else _EMPTY[get_origin(kind) or kind]


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The type that an annotation has next to None, and whether it has None."""
    options = get_args(annotation)
    if NoneType not in options:
        return annotation, False
    return next(each for each in options if each is not NoneType), True


def _params(operation: Operation, config: dict[str, Any], secrets: Secrets) -> Params:
    """What was filled in, with the values of the environment variables that it names.

    Raises:
        UsageError: A field is missing or invalid, or a variable is not set.
    """
    fields, left_out = operation.params.model_fields, operation.params.left_out
    given = {name: value for name, value in config.items() if value != _prefilled(fields[name], left_out=left_out)}
    if missing := [name for name, field in fields.items() if field.is_required() and name not in given]:
        hints = ", ".join(_example_of(name, fields[name]) for name in missing)
        raise UsageError(f"Nothing was done: fill in {' and '.join(missing)} in the launchpad, for example {hints}.")
    for name in operation.payloads():
        if name in given:
            given[name] = secrets.values(given[name], lookup=lambda variable: dg.EnvVar(variable).get_value())
    try:
        return operation.params.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
    raise UsageError(f"Nothing was done. Invalid {problem['loc'][0]}: {problem['msg']}.")


def _result_metadata(context: dg.OpExecutionContext, report: Report) -> dict[str, dg.MetadataValue]:
    """The report as metadata; a failed report fails the run with it."""
    metadata: dict[str, dg.MetadataValue] = {
        "summary": dg.MetadataValue.text(visible_lines(report.summary)),
        "result": dg.MetadataValue.md(report.markdown()),
    }
    context.log.info(str(report))
    if report.failed:
        raise plain_failure(visible_lines(report.summary), metadata=metadata)
    return metadata


def _refuse_unattended(context: dg.OpExecutionContext) -> None:
    """Only a person may delete data, and has to launch a new run for each deletion."""
    if found := [tag for tag in UNATTENDED_TAGS if tag in context.run.tags]:
        why = f"this run is tagged {found[0]}. Launch the job manually"
    elif context.retry_number > 0 or _PARENT_TAG in context.run.tags:
        why = "this run is a retry or re-execution. Check what is left, and launch a new run"
    else:
        return
    raise plain_failure(f"Refusing to delete data: {why}.")
