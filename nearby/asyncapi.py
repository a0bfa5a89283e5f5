"""The AsyncAPI document of the socket, made from the message types themselves. Pure."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from nearby.codecs import CODECS, JSON
from nearby.messages import ClientMessage, LocationPoint, ServerMessage

REF = "#/components/schemas/{name}"
_CONTENT = "One message per frame: " + ", ".join(
    f"{each.content_type} in {'binary' if each.binary else 'text'} frames with the subprotocol {name}"
    for name, each in CODECS.items()
)
_DOES_NOT_CLOSE = "A client ignores fields and types that it does not know."


def asyncapi_document(version: str) -> dict[str, Any]:
    """Return the document (AsyncAPI 3.0) of ``nearby.v1`` as release ``version`` speaks it.

    Actions are those of the server: it receives what a client sends.
    """
    received, sent = get_args(ClientMessage), get_args(ServerMessage)
    _, schemas = msgspec.json.schema_components((*received, *sent, LocationPoint), ref_template=REF)
    _describe_points(schemas)
    names = [message.__name__ for message in (*received, *sent)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "nearby",
            "version": version,
            "description": f"Which of my friends are near, and how far away, over WebSocket. {_DOES_NOT_CLOSE}",
        },
        "defaultContentType": JSON.content_type,
        "channels": {
            "socket": {
                "address": "/v1/ws",
                "description": f"{_CONTENT}. The access token goes into the Authorization header "
                "of the upgrade, or into the first frame.",
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
                "x-content-types": {name: codec.content_type for name, codec in CODECS.items()},
                "bindings": {
                    "ws": {
                        "method": "GET",
                        "headers": {
                            "type": "object",
                            "properties": {
                                "Authorization": {"type": "string", "description": "Bearer and an access token"},
                                "Sec-WebSocket-Protocol": {
                                    "type": "string",
                                    "description": "the first offered that is one of these is chosen",
                                    "enum": list(CODECS),
                                },
                            },
                            "required": ["Sec-WebSocket-Protocol"],
                        },
                    }
                },
            }
        },
        "operations": {
            "receive": _operation("receive", "What a client may send.", received),
            "send": _operation("send", "What the server may send.", sent),
        },
        "components": {"messages": {each.__name__: _message(each) for each in (*received, *sent)}, "schemas": schemas},
    }


def _operation(action: str, summary: str, messages: tuple[type, ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/socket"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/socket/messages/{message.__name__}"} for message in messages],
    }


def _message(message: Any) -> dict[str, Any]:
    name = message.__name__
    return {
        "name": message.__struct_config__.tag,
        "summary": " ".join((message.__doc__ or "").split()),
        "payload": {"$ref": REF.format(name=name)},
    }


def _describe_points(schemas: dict[str, Any]) -> None:
    """Say what the points of a batch are: they are decoded one by one, so that one bad point spoils no other."""
    schemas["BatchMessage"]["properties"]["points"]["items"] = {"$ref": REF.format(name="LocationPoint")}
    schemas["BatchMessage"]["properties"]["points"]["maxItems"] = 100
