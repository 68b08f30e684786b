"""``/openapi.json``: the API described for programs, as OpenAPI 3.1.

``operations`` is the table of what there is, one row for each verb of the route table; ``document`` makes the
description out of it and of the wire types. Neither handler nor wire type needs to know that they are described.
"""

from __future__ import annotations

from ollama_nb.server.openapi.document import DocumentHandler, document

__all__ = ["DocumentHandler", "document"]
