"""HTML to a PDF that lasts and that everyone can read: PDF/A-3a with the PDF/UA-1 mark (ISO 19005-3, ISO 14289-1).

WeasyPrint draws; pikepdf then mends what consent-rules section 5.4 items 1-3 found: each attachment is associated once,
the UA mark stands in the one metadata block with its extension schema, and the same input gives the same bytes. The
mark is a claim of the template's author, checked by lint only: no full validator runs here. Nothing outside the
document is ever fetched. Called through `pdf` alone: loading this takes as long as loading all the rest of the service.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO

import pikepdf
from weasyprint import HTML
from weasyprint import Attachment as WeasyAttachment
from weasyprint.urls import FatalURLFetchingError, URLFetcher, URLFetcherResponse

from app.outbound.errors import PdfRefused

Attachment = tuple[str, bytes, str, str]
"""As in `pdf`."""
_NOWHERE = "nowhere:/"
"""Base of relative addresses, so that they too reach the fetcher and are refused instead of being left out."""
_OUTSIDE = "the document asks for something outside itself"
_END = b"</rdf:RDF>"
_UA_MARK = b"""<rdf:Description rdf:about="" xmlns:pdfuaid="http://www.aiim.org/pdfua/ns/id/">\
<pdfuaid:part>1</pdfuaid:part></rdf:Description>\
<rdf:Description rdf:about="" xmlns:pdfaExtension="http://www.aiim.org/pdfa/ns/extension/" \
xmlns:pdfaSchema="http://www.aiim.org/pdfa/ns/schema#" xmlns:pdfaProperty="http://www.aiim.org/pdfa/ns/property#">\
<pdfaExtension:schemas><rdf:Bag><rdf:li rdf:parseType="Resource">\
<pdfaSchema:schema>PDF/UA identification schema</pdfaSchema:schema>\
<pdfaSchema:namespaceURI>http://www.aiim.org/pdfua/ns/id/</pdfaSchema:namespaceURI>\
<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>\
<pdfaSchema:property><rdf:Seq><rdf:li rdf:parseType="Resource">\
<pdfaProperty:name>part</pdfaProperty:name><pdfaProperty:valueType>Integer</pdfaProperty:valueType>\
<pdfaProperty:category>internal</pdfaProperty:category>\
<pdfaProperty:description>Part of ISO 14289 this file follows</pdfaProperty:description>\
</rdf:li></rdf:Seq></pdfaSchema:property>\
</rdf:li></rdf:Bag></pdfaExtension:schemas></rdf:Description>"""
"""PDF/A allows no property that is not described: the mark and, beside it, what the mark means."""


class _Refusing(URLFetcher):  # type: ignore[misc]
    """Lets in what the document carries itself (`data:`) and stops the rendering at anything else."""

    def __init__(self) -> None:
        super().__init__(allowed_protocols=("data",), allow_redirects=False, fail_on_errors=True)
        self.refused = False
        """Kept because drawings (SVG) swallow the error and would go out with a hole in them."""

    def fetch(self, url: str, headers: dict[str, str] | None = None) -> URLFetcherResponse:
        if not url.lower().startswith("data:"):
            self.refused = True
            raise PdfRefused(_OUTSIDE)
        return super().fetch(url, headers)


def draw_pdf(html: str, attachments: Sequence[Attachment], *, identifier: str, created: datetime) -> bytes:
    """Render a whole HTML page, with files attached as its data (AFRelationship /Data).

    `identifier` becomes the file's permanent ID; the same arguments give the same bytes on the same machine.
    Raises PdfRefused: no `lang`, no `title`, an address outside the document, an attachment named twice.
    """
    if len({name for name, *_ in attachments}) != len(attachments):
        raise PdfRefused("two attachments have one name")
    moment = created.astimezone(UTC).replace(microsecond=0)
    drawn = _draw(html, attachments, identifier, moment)
    with pikepdf.open(BytesIO(drawn)) as pdf:
        _attach_once(pdf, {name: media_type for name, _, media_type, _ in attachments})
        _mark(pdf)
        return _saved(pdf)


def _draw(html: str, attachments: Sequence[Attachment], identifier: str, moment: datetime) -> bytes:
    # WeasyPrint logs what it does not understand, with pieces of the document in it.
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)
    try:
        fetcher = _Refusing()
        document = HTML(string=html, base_url=_NOWHERE, url_fetcher=fetcher).render(pdf_variant="pdf/a-3a")
        if not (document.metadata.lang or "").strip() or not (document.metadata.title or "").strip():
            raise PdfRefused("a document says its language and its title")
        if document.metadata.attachments:
            raise PdfRefused("files are attached by the caller, never by the page")
        document.metadata.created = document.metadata.modified = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        document.metadata.attachments = [_attachment(item, moment) for item in attachments]
        drawn: bytes = document.write_pdf(pdf_variant="pdf/a-3a", pdf_identifier=identifier.encode())
    except FatalURLFetchingError:
        raise PdfRefused(_OUTSIDE) from None
    if fetcher.refused:
        raise PdfRefused(_OUTSIDE)
    return drawn


def _attachment(item: Attachment, moment: datetime) -> WeasyAttachment:
    name, content, _, description = item
    return WeasyAttachment(
        string=content, name=name, description=description, relationship="Data", created=moment, modified=moment
    )


def _attach_once(pdf: pikepdf.Pdf, media_types: dict[str, str]) -> None:
    """Keep the first of each association (section 5.4 item 1) and say what kind of file it is."""
    files = pdf.Root.get("/AF")
    if files is None:
        return
    kept: dict[tuple[int, int], pikepdf.Object] = {}
    for file in files:
        kept.setdefault(file.objgen, file)
    pdf.Root.AF = pikepdf.Array(kept.values())
    for file in kept.values():
        file.EF.F.Subtype = pikepdf.Name("/" + media_types[str(file.UF)])


def _mark(pdf: pikepdf.Pdf) -> None:
    """Put the UA mark into the one block of metadata, uncompressed (section 5.4 item 3), and show the title."""
    metadata = pdf.Root.Metadata.read_bytes()
    if metadata.count(_END) != 1:
        raise PdfRefused("the metadata is not one block")
    stream = pdf.make_stream(metadata.replace(_END, _UA_MARK + _END))
    stream.Type, stream.Subtype = pikepdf.Name.Metadata, pikepdf.Name.XML
    pdf.Root.Metadata = stream
    pdf.Root.ViewerPreferences = pikepdf.Dictionary(DisplayDocTitle=True)


def _saved(pdf: pikepdf.Pdf) -> bytes:
    target = BytesIO()
    pdf.remove_unreferenced_resources()
    pdf.save(
        target,
        deterministic_id=True,
        compress_streams=False,
        stream_decode_level=pikepdf.StreamDecodeLevel.none,
        object_stream_mode=pikepdf.ObjectStreamMode.disable,
    )
    return target.getvalue()
