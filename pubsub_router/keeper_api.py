"""The admin API of a ring keeper: ``/admin/v1/ring``. Any keeper answers; only the leader drives what was begun.

Every error is a problem (RFC 9457) with a stable ``code``. What the ring does not allow is 409 and says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nearby.errors import RingError, StoreUnavailable
from nearby.ports import Discovery, RingState, Role
from pubsub_router import plan
from pubsub_router.keeper import RingKeeper
from pubsub_router.keeper_documents import PlanDocument, RingDocument, plan_document, ring_document
from pubsub_router.keeper_probe import why_unusable
from pubsub_router.plan import RingRefused

log = logging.getLogger(__name__)

B = TypeVar("B", bound=msgspec.Struct)
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
Authorized = Callable[[str | None], bool]
"""Whether an ``Authorization`` header may do this."""
Handler = Callable[[Request], Awaitable[Response]]

SHOWN_ACTIONS = 10
_PROBLEM = "application/problem+json"


class PlanBody(msgspec.Struct, forbid_unknown_fields=True):
    """``add`` has addresses or ``SLOT=ADDRESS``, ``remove`` slots or addresses."""

    add: list[Text] = []
    remove: list[Text] = []


class ResizeBody(PlanBody, kw_only=True, forbid_unknown_fields=True):
    """A resize to begin."""

    reason: Text
    actor: Text


class ReplaceBody(msgspec.Struct, forbid_unknown_fields=True):
    """A server to put in the place of another."""

    slot: Text
    address: Text
    reason: Text
    actor: Text


class AbortBody(msgspec.Struct, forbid_unknown_fields=True):
    """A resize to give up."""

    actor: Text
    reason: Text = "asked for"


class SparesBody(PlanBody, kw_only=True, forbid_unknown_fields=True):
    """Spares to add and to remove, by address."""

    actor: Text
    reason: Text = "asked for"


class KeeperApi:
    """The routes over ``keeper``. ``authorized`` judges the header of each request."""

    def __init__(self, keeper: RingKeeper, discovery: Discovery, authorized: Authorized) -> None:
        self._keeper = keeper
        self._discovery = discovery
        self._authorized = authorized

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes for the admin port."""
        endpoints: Sequence[tuple[str, str, Handler]] = [
            ("", "GET", self._show),
            ("/plan", "POST", self._plan),
            ("/resize", "POST", self._resize),
            ("/replace", "POST", self._replace),
            ("/abort", "POST", self._abort),
            ("/history", "GET", self._history),
            ("/spares", "POST", self._spares),
        ]
        return [Route(f"/admin/v1/ring{path}", self._guarded(act), methods=[how]) for path, how, act in endpoints]

    def _guarded(self, handler: Handler) -> Handler:
        """Return ``handler`` behind the token, its errors made problems."""

        async def guarded(request: Request) -> Response:
            if not self._authorized(request.headers.get("authorization")):
                return _problem(401, "not_authenticated", "show the admin token", {"WWW-Authenticate": "Bearer"})
            try:
                return await handler(request)
            except RingRefused as error:
                return _problem(409, error.code, error.detail)
            except RingError as error:
                return _problem(409, "bad_ring", f"the ring cannot be used: {error}")
            except msgspec.MsgspecError as error:
                return _problem(422, "invalid_request", str(error))
            except StoreUnavailable as error:
                log.warning("%s", error)
                return _problem(503, "unavailable", "discovery does not answer; try again", {"Retry-After": "1"})

        return guarded

    async def _show(self, _: Request) -> Response:
        return _json(await self._document())

    async def _plan(self, request: Request) -> Response:
        body = await _body(request, PlanBody)
        return _json(await self._planned(body))

    async def _resize(self, request: Request) -> Response:
        body = await _body(request, ResizeBody)
        await self._planned(body)
        await _check_answers([word.rpartition("=")[2] if "=" in word else word for word in body.add])

        def resize(present: RingState | None) -> RingState:
            nodes = plan.nodes_after(present, body.add, body.remove)
            return plan.create(nodes) if present is None else plan.begin_resize(present, nodes)

        await self._keeper.change(resize, "resize", _why(body), body.actor)
        return _json(await self._document(), 202)

    async def _replace(self, request: Request) -> Response:
        body = await _body(request, ReplaceBody)

        def replace(present: RingState | None) -> RingState:
            return plan.replace(_known(present), body.slot, body.address)

        replace(await self._keeper.read())
        await _check_answers([body.address])
        await self._keeper.change(replace, "replace", f"{body.slot}: {body.reason}", body.actor)
        return _json(await self._document())

    async def _abort(self, request: Request) -> Response:
        body = await _body(request, AbortBody)
        await self._keeper.change(lambda present: plan.abort(_known(present)), "abort", body.reason, body.actor)
        return _json(await self._document())

    async def _spares(self, request: Request) -> Response:
        body = await _body(request, SparesBody)

        def change(present: RingState | None) -> RingState:
            return plan.change_spares(_known(present), body.add, body.remove)

        change(await self._keeper.read())
        await _check_answers(body.add)
        await self._keeper.change(change, "spares", _why(body), body.actor)
        return _json(await self._document())

    async def _history(self, _: Request) -> Response:
        return _json({"actions": await self._discovery.actions()})

    async def _document(self) -> RingDocument:
        keeper = self._keeper
        view = keeper.view()
        if view is None:
            raise RingRefused("no_ring", "there is no ring yet; begin one by adding shards")
        actions = (await self._discovery.actions())[-SHOWN_ACTIONS:]
        keepers = keeper.members.get(Role.RING_KEEPER, {})
        return await asyncio.to_thread(ring_document, view, keepers, keeper.next_action.reason, actions)

    async def _planned(self, body: PlanBody) -> PlanDocument:
        """Return what the resize of ``body`` would do.

        Raises:
            RingRefused: it is not allowed now.
        """
        present = await self._keeper.read()
        nodes = plan.nodes_after(present, body.add, body.remove)
        _ = plan.create(nodes) if present is None else plan.begin_resize(present, nodes)
        return await asyncio.to_thread(plan_document, present, nodes)


def _known(present: RingState | None) -> RingState:
    if present is None:
        raise RingRefused("no_ring", "there is no ring yet; begin one by adding shards")
    return present


async def _check_answers(addresses: Sequence[str]) -> None:
    """Ask every server of ``addresses`` whether it can be used.

    Raises:
        RingRefused: one does not answer as a Redis server.
    """
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(why_unusable(address), name=f"ask {address}") for address in addresses]
    for answer in asked:
        if answer.result():
            raise RingRefused("no_answer", answer.result())


def _why(body: ResizeBody | SparesBody) -> str:
    """Return the reason with what is to change, for the history."""
    words = [f"+{word}" for word in body.add] + [f"-{word}" for word in body.remove]
    return f"{body.reason} ({', '.join(words)})"


async def _body(request: Request, kind: type[B]) -> B:
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def _json(document: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


def _problem(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return Response(msgspec.json.encode(body), status, headers, media_type=_PROBLEM)
