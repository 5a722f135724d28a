"""Figures of the book: pictures of faces with real alt text, and AUCs with their intervals.

Every figure carries a text alternative; for a plot it is written from the data. Taught
nowhere, used in every chapter.
"""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML, display
from PIL import Image, ImageDraw

from seglib import files
from seglib.errors import unknown_name
from seglib.regions import LABELS

# Okabe & Ito (2008): tells apart for colour-blind readers. Left and right share one.
COLOURS = {
    "background": (0, 0, 0), "face": (230, 159, 0), "rb": (0, 114, 178), "lb": (0, 114, 178),
    "re": (86, 180, 233), "le": (86, 180, 233), "nose": (0, 158, 115), "ulip": (213, 94, 0),
    "imouth": (110, 40, 10), "llip": (204, 121, 167), "hair": (153, 153, 153),
}  # fmt: skip
INK, ACCENT, CHANCE, GRID = "#56606b", "#0072b2", "#d55e00", "rgba(128,128,128,0.25)"
DRAWINGS = Path(__file__).with_name("drawings")


def coloured(label_map: np.ndarray) -> np.ndarray:
    """A label map in colours, ``(H, W)`` LaPa ids -> ``(H, W, 3)`` uint8."""
    return np.array([COLOURS[name] for name in LABELS], np.uint8)[label_map]


def overlay(image: np.ndarray, label_map: np.ndarray, opacity: float = 0.5) -> np.ndarray:
    """The label map laid over its crop; the background is left as it is."""
    mixed = (1 - opacity) * image + opacity * coloured(label_map)
    return np.where((label_map > 0)[..., None], mixed, image).astype(np.uint8)


def patches(image: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """The crop cut into its patches: kept ones as they are, the others faint, a line between.

    image ``(H, W, 3)`` uint8, kept ``(gh, gw)`` bool.
    """
    height, width = image.shape[0] // kept.shape[0], image.shape[1] // kept.shape[1]
    mask = kept.repeat(height, 0).repeat(width, 1)[..., None]
    shown = np.where(mask, image, 0.25 * image + 0.75 * 255)
    shown[::height] = shown[:, ::width] = 200
    return shown.astype(np.uint8)


def boxed(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The picture ``(H, W, 3)`` uint8 with a box ``(x0, y0, x1, y1)`` drawn, dark within light."""
    drawn = Image.fromarray(image)
    pen, corners = ImageDraw.Draw(drawn), [round(float(side)) for side in box]
    for colour, width in (((255, 255, 255), 5), ((213, 94, 0), 3)):
        pen.rectangle(corners, outline=colour, width=width)
    return np.asarray(drawn)


def heat(image: np.ndarray, values: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Numbers of patches laid over their crop: red above 0, blue below, nothing where NaN.

    image ``(H, W, 3)`` uint8, values ``(gh, gw)``; the largest of either sign has full colour.
    """
    import matplotlib

    scaled = values / (np.nanmax(np.abs(values), initial=0.0) or 1.0)
    colours = matplotlib.colormaps["RdBu_r"](np.nan_to_num(scaled) / 2 + 0.5)[..., :3] * 255
    height, width = image.shape[0] // values.shape[0], image.shape[1] // values.shape[1]
    large, known = (
        one.repeat(height, 0).repeat(width, 1) for one in (colours, ~np.isnan(values)[..., None])
    )
    return np.where(known, (1 - opacity) * image + opacity * large, image).astype(np.uint8)


def components(tokens: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """First three principal components of a token grid as colours; grey outside the mask.

    tokens ``(gh, gw, D)``, inside ``(gh, gw)`` bool -> ``(gh, gw, 3)`` uint8. Tokens with the
    same colour say similar things.
    """
    chosen = tokens[inside] - tokens[inside].mean(0)
    _, _, axes = np.linalg.svd(chosen, full_matrices=False)
    values = chosen @ axes[:3].T
    low, high = np.quantile(values, [0.02, 0.98], axis=0)
    shown = np.full((*inside.shape, 3), 225, np.uint8)
    shown[inside] = ((values - low) / (high - low)).clip(0, 1) * 255
    return shown


def show_pictures(
    images: Sequence[np.ndarray],
    captions: Sequence[str],
    alts: Sequence[str],
    credit: str = "",
    side: int = 160,
) -> None:
    """Pictures side by side, each with its caption and its alt text; a credit line below.

    images are ``(H, W, 3)`` uint8 of any size; side is their width on the page in pixels.
    """
    cells = "".join(
        f'<figure style="margin:0;width:{side}px"><img src="{data_uri(image, side)}" '
        f'alt="{html.escape(alt)}" style="width:100%"><figcaption style="font-size:.85em">'
        f"{html.escape(caption)}</figcaption></figure>"
        for image, caption, alt in zip(images, captions, alts, strict=True)
    )
    line = f'<div style="font-size:.75em;opacity:.8">{html.escape(credit)}</div>' if credit else ""
    row = f'<div style="display:flex;flex-wrap:wrap;gap:12px">{cells}</div>'
    display(HTML(f"<div>{row}{line}</div>"))


def show_contact_sheet(
    sheet: Mapping[str, Sequence[np.ndarray]], columns: Sequence[str], credit: str, side: int = 96
) -> None:
    """Pictures in rows and columns, with a heading each; a credit line below.

    sheet: by the heading of its row ``(H, W, 3)`` uint8 pictures, one a column; side as above.
    """
    head = "".join(f'<th scope="col">{html.escape(one)}</th>' for one in ("", *columns))
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(row)}</th>'
        + "".join(
            f'<td style="padding:2px"><img src="{data_uri(image, side, "JPEG")}" width="{side}" '
            f'alt="{html.escape(f"{row}, {column}")}" style="min-width:{side}px"></td>'
            for image, column in zip(images, columns, strict=True)
        )
        + "</tr>"
        for row, images in sheet.items()
    )
    line = f'<div style="font-size:.75em;opacity:.8">{html.escape(credit)}</div>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    display(HTML(f'<div style="overflow-x:auto" tabindex="0">{table}{line}</div>'))


def show_drawing(name: str) -> None:
    """A chapter's idea as a drawing, one of the SVG files of ``seglib/drawings``, inline.

    Its lines take the colour of the text around them, so that it is seen in the light and in the
    dark. Each file says in words what it shows.

    Raises
    ------
    seglib.errors.UnknownName
        There is no such drawing.
    """
    known = {path.stem: path for path in DRAWINGS.glob("*.svg")}
    if name not in known:
        raise unknown_name("drawing", name, known)
    drawn = known[name].read_text(encoding="utf-8")
    wide = f'<div style="min-width:560px;max-width:720px;margin:auto">{drawn}</div>'
    display(HTML(f'<div style="overflow-x:auto" tabindex="0">{wide}</div>'))  # phones scroll it


@cache
def template():
    """The one look of all plots: no ground of their own, few lines, colours of Okabe and Ito."""
    import plotly.graph_objects as go

    axis = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": [ACCENT, CHANCE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9"],
        "font": {"color": INK, "family": "system-ui, sans-serif", "size": 13},
        "title": {"x": 0, "xanchor": "left", "xref": "paper", "font": {"size": 15}},
        "margin": {"l": 10, "r": 10, "t": 50, "b": 10},
        "xaxis": axis,
        "yaxis": axis,
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 1, "xanchor": "right"},
    }
    return go.layout.Template(layout=layout)


def show_plot(figure, alt: str) -> None:
    """A plotly figure with its text alternative.

    All plots look alike, by `template`. In the published book they are drawn with the book's own
    copy of plotly and no network: the builder names that copy in ``SEGLIB_PLOTLYJS``. Elsewhere
    plotly chooses its renderer.
    """
    figure.update_layout(template=template())
    plotlyjs = os.environ.get("SEGLIB_PLOTLYJS")
    if plotlyjs is None:
        figure.show()
        return
    drawn = figure.to_html(
        full_html=False,
        include_plotlyjs=plotlyjs,
        include_mathjax=False,
        config={"displaylogo": False, "responsive": True},
    )
    label = html.escape(alt)
    # No role="img": that would hide plotly's own buttons from those who cannot see it.
    display(HTML(f'<figure aria-label="{label}" style="margin:0">{drawn}</figure>'))


def show_aucs(table: pd.DataFrame, title: str) -> None:
    """AUC of every view as a dot with its interval; the text alternative says the same."""
    import plotly.graph_objects as go

    rows = table.iloc[::-1]
    figure = go.Figure(_dots(rows.auc, list(rows.index), rows, {"size": 11}, ".3f"))
    figure.add_vline(x=0.5, line={"color": CHANCE, "dash": "dot"}, annotation_text="chance")
    figure.update_layout(
        title=title,
        xaxis_title="AUC, 95 % interval over groups of people",
        height=90 + 38 * len(rows),
    )
    show_plot(figure, f"{title}. {described(table)}")


def show_changes(tables: Mapping[str, pd.DataFrame], title: str) -> None:
    """What each other choice does to the AUC, by axis: a dot a choice, filled where it is resolved.

    tables are those of `evaluation.Scores.table`, whose leads are turned round; the text
    alternative says the same.
    """
    import plotly.graph_objects as go

    rows = _changes(tables).iloc[::-1]
    resolved = (rows.low > 0) | (rows.high < 0)
    names = [list(level) for level in zip(*rows.index, strict=True)]
    marker = {"size": 10, "symbol": np.where(resolved, "circle", "circle-open")}
    figure = go.Figure(_dots(rows.change, names, rows, marker, "+.3f"))
    figure.add_vline(x=0, line={"color": CHANCE, "dash": "dot"})
    figure.update_layout(
        title=title,
        xaxis_title="change in AUC, 95 % interval over groups of people",
        height=110 + 26 * len(rows),
    )
    words = "; ".join(
        f"{axis}, {choice} {row.change:+.3f}, interval {row.low:+.3f} to {row.high:+.3f}"
        for (axis, choice), row in _changes(tables).iterrows()
    )
    show_plot(figure, f"{title}. {words}")


def show_logits(labels: np.ndarray, logits: np.ndarray, title: str) -> None:
    """Two histograms of logits ``(N,)``, bona fide (0) and fake (1)."""
    import plotly.graph_objects as go

    kinds = {"bona fide": logits[labels == 0], "fake": logits[labels == 1]}
    figure = go.Figure(
        [
            go.Histogram(x=values, name=name, opacity=0.65, marker_color=colour)
            for (name, values), colour in zip(kinds.items(), (ACCENT, CHANCE), strict=True)
        ]
    )
    figure.update_layout(
        title=title,
        xaxis_title="logit, higher is more fake",
        yaxis_title="pictures",
        barmode="overlay",
        height=320,
    )
    medians = "; ".join(f"median {name} {np.nanmedian(v):.2f}" for name, v in kinds.items())
    show_plot(figure, f"{title}, two overlapping histograms: {medians}")


def show_reliability(table: pd.DataFrame, title: str) -> None:
    """Predicted probability against the share of fakes, see `metrics.reliability`."""
    import plotly.graph_objects as go

    line = go.Scatter(
        x=table.predicted,
        y=table.observed,
        mode="lines+markers",
        marker={"size": 9, "color": ACCENT},
        customdata=table["items"],
        hovertemplate="said %{x:.2f}, was %{y:.2f} (%{customdata} items)<extra></extra>",
    )
    figure = go.Figure(line)
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": CHANCE, "dash": "dot"})
    figure.update_layout(
        title=title,
        xaxis={"title": "probability of fake that the probe gave", "range": [0, 1]},
        yaxis={"title": "share that was fake", "range": [0, 1]},
        height=420,
    )
    points = "; ".join(f"{row.predicted:.2f} was {row.observed:.2f}" for row in table.itertuples())
    show_plot(figure, f"{title} A dot a bin, the diagonal is perfect. Said and was: {points}")


def show_matrix(
    auc: pd.DataFrame,
    low: pd.DataFrame,
    high: pd.DataFrame,
    title: str,
    rows: str = "whose tokens",
    span: float = 0.25,
) -> None:
    """AUCs as a grid of coloured cells, one half in the middle; what holds one half is in brackets.

    Three tables of one shape: the estimates, NaN where there is none, and the two ends of their
    intervals. rows says what their index is; colours are full at `span` from one half.
    """
    import plotly.graph_objects as go

    holds = (low <= 0.5) & (high >= 0.5)
    told = auc.map("{:.2f}".format).where(auc.notna(), "none")
    grid = go.Heatmap(
        z=auc.to_numpy(),
        x=list(auc.columns),
        y=list(auc.index),
        text=told.where(~holds, "(" + told + ")").to_numpy(),
        texttemplate="%{text}",
        # Blue to red through white: both ends are told apart by colour-blind readers.
        colorscale="RdBu_r",
        zmin=0.5 - span,
        zmax=0.5 + span,
        colorbar={"title": "AUC"},
        hovertemplate="%{y}, %{x}: %{z:.3f}<extra></extra>",
    )
    figure = go.Figure(grid)
    figure.update_layout(
        title=title,
        yaxis={"title": rows, "autorange": "reversed"},
        height=230 + 27 * len(auc),
    )
    words = "; ".join(
        f"{row}, {column}: {auc.loc[row, column]:.3f}, interval "
        f"{low.loc[row, column]:.3f} to {high.loc[row, column]:.3f}"
        if pd.notna(auc.loc[row, column])
        else f"{row}, {column}: none"
        for row in auc.index
        for column in auc.columns
    )
    show_plot(figure, f"{title}. {words}")


def described(table: pd.DataFrame) -> str:
    """The AUC table in words, for those who cannot see the plot."""
    return "; ".join(
        f"{view} AUC {row.auc:.3f}, interval {row.low:.3f} to {row.high:.3f}"
        for view, row in table.iterrows()
    )


def _dots(values: pd.Series, names: list, ends: pd.DataFrame, marker: Mapping, digits: str):
    """A dot a row with its interval, whose ends are the columns low and high."""
    import plotly.graph_objects as go

    return go.Scatter(
        x=values,
        y=names,
        mode="markers",
        marker={"color": ACCENT, **marker},
        error_x={
            "type": "data",
            "symmetric": False,
            # A percentile interval may end a hair short of its estimate.
            "array": (ends.high - values).clip(0),
            "arrayminus": (values - ends.low).clip(0),
            "color": INK,
        },
        hovertemplate=f"%{{y}}: %{{x:{digits}}}<extra></extra>",
    )


def _changes(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an axis and choice: how far it is ahead of the axis's standard, with its interval."""
    leads = {axis: table.drop(index=table.attrs["part"]) for axis, table in tables.items()}
    rows = -pd.concat(leads, names=["axis"])[["lead", "lead_high", "lead_low"]]
    return rows.set_axis(["change", "low", "high"], axis=1)


def save_result(tables: dict[str, pd.DataFrame], note: str, path: Path) -> None:
    """A PNG of one panel a table, drawn with matplotlib; what it shows is in its description."""
    from matplotlib.figure import Figure

    longest = max(len(table) for table in tables.values())
    figure = Figure(figsize=(5.2 * len(tables), 1.2 + 0.36 * longest), layout="constrained")
    axes = figure.subplots(1, len(tables), squeeze=False, sharex=True)[0]
    for axis, (title, table) in zip(axes, tables.items(), strict=True):
        rows = table.iloc[::-1]
        # As above; matplotlib refuses a minus.
        spread = np.array([rows.auc - rows.low, rows.high - rows.auc]).clip(0)
        axis.errorbar(rows.auc, rows.index, xerr=spread, fmt="o", color=ACCENT, ecolor=INK)
        axis.axvline(0.5, color=CHANCE, linestyle=":")
        axis.set(
            title=title.replace(" → ", " →\n"), xlabel="AUC, 95 % interval over groups of people"
        )
        axis.spines[["top", "right"]].set_visible(False)
    figure.text(0.5, -0.02, note, ha="center", va="top", fontsize=8, color=INK)
    words = {"Description": pictured(tables)}
    kind = path.suffix.removeprefix(".") or "png"
    with files.replacing(path) as part:
        figure.savefig(part, format=kind, dpi=150, bbox_inches="tight", metadata=words)


def pictured(tables: Mapping[str, pd.DataFrame]) -> str:
    """The tables of a picture in words; the picture carries them, so that its age can be told."""
    return ". ".join(f"{title}: {described(table)}" for title, table in tables.items())


def data_uri(image: np.ndarray, side: int, kind: str = "PNG") -> str:
    """A picture inside the page, no sharper than twice the `side` that is shown; PNG or JPEG."""
    picture = Image.fromarray(image)
    scale = 2 * side / picture.width
    resample = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    picture = picture.resize((2 * side, round(picture.height * scale)), resample)
    file = io.BytesIO()
    picture.save(file, kind, optimize=True)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()
