"""The OpenAPI description of the answers that several endpoints share."""

from __future__ import annotations

from typing import Any

from dw_orchestration.local.api.errors import DetailOut, ErrorOut, MessageOut

Responses = dict[int | str, dict[str, Any]]

COMMON: Responses = {status: {"model": ErrorOut} for status in (401, 403, 404, 405, 429)}
BODY: Responses = {400: {"model": ErrorOut}, 415: {"model": ErrorOut}}
BULK: Responses = {**BODY, 503: {"model": ErrorOut}}
LIVE: Responses = {400: {"model": MessageOut}}
LIVE_BODY: Responses = {400: {"model": MessageOut | ErrorOut}, 415: {"model": ErrorOut}}
DETAIL: Responses = {400: {"model": DetailOut}}
TIMES: Responses = {400: {"model": ErrorOut}}
