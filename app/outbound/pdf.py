"""PDFs that last and that everyone can read, drawn from HTML; the drawing itself is in `drawing`.

Leaves out templates; escaping is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

Attachment = tuple[str, bytes, str, str]
"""(file name, content, media type, description)."""


def render_pdf(html: str, attachments: Sequence[Attachment], *, identifier: str, created: datetime) -> bytes:
    """Render a whole HTML page, with files attached as its data (AFRelationship /Data).

    `identifier` becomes the file's permanent ID; the same arguments give the same bytes on the same machine.
    Raises PdfRefused: no `lang`, no `title`, an address outside the document, an attachment named twice.
    """
    # loaded with the first document and not with the service: it takes a second of every start otherwise
    from app.outbound.drawing import draw_pdf  # noqa: PLC0415

    return draw_pdf(html, attachments, identifier=identifier, created=created)
