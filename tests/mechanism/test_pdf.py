"""The PDF is archival, tagged, deterministic and closed to the outside (consent-rules section 5.4, consent rule 57)."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from pathlib import Path

import pikepdf
import pytest

from app.outbound.errors import PdfRefused
from app.outbound.pdf import render_pdf

CREATED = datetime(2026, 11, 21, 9, 30, 15, 999, tzinfo=UTC)
TEXT = "Élève à Noël, cœur d’été : ça coûte 12 € ; mañana, ¿qué?, amanhã não"
PAGE = f"""<html lang="fr"><head><title>Reçu de consentement</title>
<style>@page {{ @bottom-center {{ content: "page " counter(page); font-family: "DejaVu Sans" }} }}</style></head>
<body><h1>Reçu</h1><p>{TEXT}</p><p><a href="https://regard.example/space">Votre espace</a></p>
<table>
<tr><th scope="col">Quoi</th><th scope="col">Jusqu’au</th></tr><tr><td>Soldes</td><td>20 mai 2027</td></tr></table>
</body></html>"""
JSON = ("receipt.json", b'{"consent":"con_1"}', "application/json", "Le reçu, lisible par machine")
CSV = ("data.csv", b"a;b\n1;2\n", "text/csv", "Les données")


def render(page: str = PAGE, attachments: tuple[tuple[str, bytes, str, str], ...] = (JSON, CSV)) -> bytes:
    return render_pdf(page, attachments, identifier="con_1", created=CREATED)


@pytest.fixture(scope="module")
def made() -> bytes:
    return render()


def test_it_is_tagged_in_its_language_and_shows_its_title(made: bytes) -> None:
    with pikepdf.open(BytesIO(made)) as pdf:
        assert pdf.Root.MarkInfo.Marked
        assert len(pdf.Root.StructTreeRoot.K)
        assert str(pdf.Root.Lang) == "fr"
        assert str(pdf.docinfo.Title) == "Reçu de consentement"
        assert pdf.Root.ViewerPreferences.DisplayDocTitle
        assert len(pdf.Root.OutputIntents) == 1


def test_it_says_a_3a_and_ua_1_in_one_block(made: bytes) -> None:
    """Section 5.4 item 3: one RDF block, uncompressed, the mark beside the description of what the mark is."""
    with pikepdf.open(BytesIO(made)) as pdf:
        raw = pdf.Root.Metadata.read_raw_bytes()
        assert raw.count(b"<rdf:RDF") == raw.count(b"</rdf:RDF>") == 1
        assert b"http://www.aiim.org/pdfa/ns/extension/" in raw
        with pdf.open_metadata() as metadata:
            assert metadata.pdfa_status == "3A"
            assert metadata["pdfuaid:part"] == "1"
            assert metadata["dc:title"] == "Reçu de consentement"
            assert metadata["xmp:CreateDate"] == "2026-11-21T09:30:15Z"


def test_each_attachment_is_there_once(made: bytes) -> None:
    """Section 5.4 item 1: the renderer associates each file twice."""
    with pikepdf.open(BytesIO(made)) as pdf:
        associated = {str(file.UF): file for file in pdf.Root.AF}
        assert len(pdf.Root.AF) == len(pdf.attachments) == 2
        assert {name: str(file.EF.F.Subtype) for name, file in associated.items()} == {
            "receipt.json": "/application/json",
            "data.csv": "/text/csv",
        }
        assert {str(file.AFRelationship) for file in associated.values()} == {"/Data"}
        assert str(associated["receipt.json"].Desc) == "Le reçu, lisible par machine"
        assert pdf.attachments["receipt.json"].get_file().read_bytes() == JSON[1]
        assert pdf.attachments["data.csv"].get_file().read_bytes() == CSV[1]


def test_without_attachments_there_is_no_association() -> None:
    with pikepdf.open(BytesIO(render(attachments=()))) as pdf:
        assert "/AF" not in pdf.Root
        assert len(pdf.attachments) == 0


def test_the_same_input_gives_the_same_bytes(made: bytes) -> None:
    """Section 5.4 item 2, and the moment counts, not the zone it is said in."""
    assert render() == made
    elsewhere = CREATED.astimezone(timezone(timedelta(hours=5)))
    assert render_pdf(PAGE, (JSON, CSV), identifier="con_1", created=elsewhere) == made
    assert render_pdf(PAGE, (JSON, CSV), identifier="con_2", created=CREATED) != made


def test_accents_can_be_read_back(made: bytes, tmp_path: Path) -> None:
    file = tmp_path / "receipt.pdf"
    file.write_bytes(made)
    tool = shutil.which("pdftotext")
    assert tool, "poppler-utils is installed by make test"
    ran = subprocess.run([tool, "-enc", "UTF-8", str(file), "-"], capture_output=True, check=True)
    assert TEXT in " ".join(ran.stdout.decode().split())


def test_fonts_are_embedded(made: bytes) -> None:
    with pikepdf.open(BytesIO(made)) as pdf:
        descriptors = [
            o for o in pdf.objects if isinstance(o, pikepdf.Dictionary) and o.get("/Type") == "/FontDescriptor"
        ]
        assert descriptors
        assert all({"/FontFile2", "/FontFile3"} & set(d.keys()) for d in descriptors)


IN_DATA = (
    "data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%229%22 height=%229%22%3E"
    "%3Cimage href=%22file:///etc/hostname%22 width=%229%22 height=%229%22/%3E%3C/svg%3E"
)


@pytest.mark.parametrize(
    "asks",
    [
        '<img src="https://tracker.example/p.png">',
        '<img src="logo.png">',
        '<img src="//e.example/p.png">',
        '<img src="file:///etc/hostname">',
        '<link rel="stylesheet" href="https://e.example/a.css">',
        '<link rel="attachment" href="file:///etc/hostname">',
        "<style>@import 'http://e.example/a.css';</style>",
        "<style>@font-face{font-family:x;src:url(http://e.example/f)} p{font-family:x}</style>",
        "<style>p{background:url(http://e.example/a.png)}</style>",
        '<object data="file:///etc/hostname"></object>',
        '<embed src="file:///etc/hostname">',
        '<svg width="9" height="9"><image href="file:///etc/hostname" width="9" height="9"/></svg>',
        f'<img src="{IN_DATA}">',
    ],
)
def test_nothing_outside_is_fetched(asks: str) -> None:
    """Section 5.4 item 7; the refusal does not repeat the address."""
    with pytest.raises(PdfRefused) as refused:
        render(PAGE.replace("</body>", asks + "</body>"), ())
    assert "example" not in str(refused.value)
    assert "hostname" not in str(refused.value)


def test_what_the_document_carries_is_drawn() -> None:
    dot = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
        "DUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    with pikepdf.open(BytesIO(render(PAGE.replace("</body>", f'<img alt="point" src="{dot}"></body>'), ()))) as pdf:
        assert len(pdf.pages[0].get_images()) == 1


@pytest.mark.parametrize(
    ("old", "new"), [(' lang="fr"', ""), ("<title>Reçu de consentement</title>", ""), ("Reçu de consentement", " ")]
)
def test_a_page_without_language_or_title_is_refused(old: str, new: str) -> None:
    with pytest.raises(PdfRefused, match="language and its title"):
        render(PAGE.replace(old, new), ())


def test_two_attachments_of_one_name_are_refused() -> None:
    with pytest.raises(PdfRefused, match="one name"):
        render(attachments=(JSON, JSON))
