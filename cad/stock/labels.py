"""Labels as PDF: the card number in figures and as a barcode (Code 128), one a page or many on a sheet.

Needs the extra `cad[labels]` (reportlab). What stands on a label: issuer, printed number, barcode of its twelve digits.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from reportlab.graphics.barcode.code128 import Code128
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas

from protocol import card_number


@dataclass(frozen=True, slots=True)
class Sheet:
    """How labels lie on a page; all in millimetres. `gap_x`, `gap_y`: between labels."""

    page: tuple[float, float]
    label: tuple[float, float]
    columns: int
    rows: int
    margin_x: float = 0.0
    margin_y: float = 0.0
    gap_x: float = 0.0
    gap_y: float = 0.0

    @property
    def labels(self) -> int:
        """How many labels a page has."""
        return self.columns * self.rows


SHEETS: Final = {
    # ISO/IEC 7810: ID-1, for a card printer.
    "card": Sheet(page=(85.6, 53.98), label=(85.6, 53.98), columns=1, rows=1),
    "a4-24": Sheet(page=(210, 297), label=(70, 37), columns=3, rows=8, margin_y=0.5),
    "a4-65": Sheet(page=(210, 297), label=(38.1, 21.2), columns=5, rows=13, margin_x=4.65, margin_y=10.7, gap_x=2.55),
}
_FONT: Final = "Helvetica"
_QUIET: Final = 10
"""Quiet zone on both sides of a Code 128 symbol, in modules (ISO/IEC 15417, 4.2 b)."""
_MODULES: Final = 35 + 11 * 6
"""Start, six pairs of digits in code set C, check character, stop: 11 + 66 + 11 + 13."""
_MODULE_MAX_MM: Final = 0.5


def render(numbers: Sequence[str], sheet: Sheet, issuer: str) -> bytes:
    """Return the PDF for printed card numbers, in order. The same input gives the same bytes."""
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=(sheet.page[0] * mm, sheet.page[1] * mm), invariant=1, pageCompression=1)
    canvas.setTitle("Card labels")
    for place, number in enumerate(numbers):
        if place and place % sheet.labels == 0:
            canvas.showPage()
        row, column = divmod(place % sheet.labels, sheet.columns)
        left = sheet.margin_x + column * (sheet.label[0] + sheet.gap_x)
        bottom = sheet.page[1] - sheet.margin_y - (row + 1) * sheet.label[1] - row * sheet.gap_y
        _draw(canvas, card_number.spell(card_number.parse(number)), left, bottom, sheet.label, issuer)
    canvas.save()
    return out.getvalue()


def _draw(canvas: Any, number: str, left: float, bottom: float, size: tuple[float, float], issuer: str) -> None:
    """One label: issuer above, number in groups of four, barcode below."""
    width, height = size
    middle = (left + width / 2) * mm
    module_mm = min(_MODULE_MAX_MM, width / (_MODULES + 2 * _QUIET))
    bar_height = height * 0.36
    code = Code128(number, barWidth=module_mm * mm, barHeight=bar_height * mm, quiet=0)
    code.drawOn(canvas, middle - code.width / 2, (bottom + height * 0.12) * mm)
    digits = " ".join(number[start : start + 4] for start in range(0, len(number), 4))
    _centred(canvas, digits, middle, (bottom + height * 0.58) * mm, width * 0.9, height * 0.16)
    _centred(canvas, issuer, middle, (bottom + height * 0.80) * mm, width * 0.9, height * 0.10)


def _centred(canvas: Any, text: str, middle: float, base: float, width: float, height: float) -> None:
    """Text as high as `height`, smaller where it would be wider than `width` (both in millimetres)."""
    size = height * mm
    wide = canvas.stringWidth(text, _FONT, size)
    if wide > width * mm:
        size *= width * mm / wide
    canvas.setFont(_FONT, size)
    canvas.drawCentredString(middle, base, text)
