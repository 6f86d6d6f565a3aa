"""Pictures of a repair: densities against scipy, figures against the audit, hostile names."""

from __future__ import annotations

import base64
import html
import re
import sys

import numpy as np
import pytest
from scipy.stats import beta, gaussian_kde, norm
from test_report import HOSTILE
from test_report import make as runs

from fairjax import report
from fairjax.postprocess import Audit
from fairjax.report import lay_out
from fairjax.report.repair.arrows import MOST_LANES, deciles, draw_arrows
from fairjax.report.repair.densities import draw_densities
from fairjax.report.repair.measures import REST_COLOUR, groups_of, nearest_step
from fairjax.report.repair.path import draw_path
from fairjax.report.repair.smoothing import atoms, bin_edges, density
from fairjax.report.repair.waterfall import draw_waterfall

FILES = ["densities.png", "arrows.png", "waterfall.png", "path.png", "report.html"]


def middle(edges):
    return (edges[1:] + edges[:-1]) / 2


def make(tasks=("income",), levels=(("F", "M"),), rows=160, units="probability", risk=True, seed=0):
    """An audit whose numbers say where they are from; after it groups have the same ranks."""
    rng = np.random.default_rng(seed)
    sizes = [len(names) for names in levels]
    level = np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes))
    g, t, a, p = level.shape[1], len(tasks), len(sizes), 3
    cell = np.arange(rows) % g
    after = rng.uniform(0.2, 0.8, (rows, t))
    before = np.clip(after + 0.3 * (cell[:, None] / g - 0.5), 0, 1)
    if units != "probability":
        before, after = 30000 * before - 9000, 30000 * after - 9000
    amounts = np.linspace(0, 1, p)
    change = amounts[:, None] * np.sqrt(np.mean((after - before) ** 2, axis=0))
    width = a + (a > 1)
    gap = (
        np.linspace(0.5, 0.1, p)[:, None, None]
        + 0.01 * np.arange(t)[:, None]
        + 0.001 * np.arange(width)
    )
    orders = [tuple(np.roll(range(a), -k)) for k in range(a)]
    steps = (
        0.5
        - 0.1 * np.arange(a + 1)[None, :, None, None]
        + 0.02 * np.arange(a)
        + 0.01 * np.arange(t)[:, None]
    )
    names = [" & ".join(levels[i][k] for i, k in enumerate(column)) for column in level.T]
    return Audit(
        tuple(tasks),
        (units,) * t,
        tuple(f"attribute {i}" for i in range(a)),
        tuple(names),
        level,
        tuple(map(tuple, levels)),
        before,
        after,
        cell,
        np.ones(rows),
        amounts,
        {"kolmogorov_smirnov": gap, "wasserstein": gap / 2},
        np.full((t, width), 0.08),
        change,
        0.2 + 0.1 * amounts[:, None] * np.ones(t) if risk else None,
        ("1 - AUC",) * t,
        tuple(orders),
        np.repeat(steps, a, axis=0),
        np.bincount(cell, minlength=g) * 10.0,
    )


# densities


@pytest.mark.parametrize("rows", [20, 1000, 1_000_000])
def test_a_density_integrates_to_one_and_comes_near_the_truth(rows):
    value = np.random.default_rng(0).normal(3, 2, rows)
    edges = bin_edges(value, bounded=False)
    found = density(value, np.ones(rows), edges)
    inside = np.mean((value >= edges[0]) & (value <= edges[-1]))
    assert found.sum() * np.diff(edges)[0] == pytest.approx(inside, rel=1e-9) and inside > 0.99995
    off = np.abs(found - norm(3, 2).pdf(middle(edges))).max()
    assert off < {20: 0.12, 1000: 0.03, 1_000_000: 0.003}[rows]


def test_a_density_is_that_of_scipy():
    rng = np.random.default_rng(1)
    value, weight = (
        np.concatenate([rng.normal(0, 1, 300), rng.normal(4, 0.5, 100)]),
        rng.uniform(0.5, 2, 400),
    )
    edges = bin_edges(value, bounded=False)
    share, order = weight / weight.sum(), np.argsort(value)
    deviation = np.sqrt(share @ (value - share @ value) ** 2)
    lower, upper = np.interp([0.25, 0.75], np.cumsum(share[order]), value[order])
    width = 0.9 * min(deviation, (upper - lower) / 1.349) * np.sum(share**2) ** 0.2
    kernels = norm.pdf(middle(edges)[:, None], value, width) @ share
    found = density(value, weight, edges)
    np.testing.assert_allclose(found, kernels, atol=0.01 * kernels.max())
    smoother = gaussian_kde(value, weights=weight)  # Scott's rule: another width, the same masses
    for low, high in ((-4, 2), (2, 7)):
        part = (middle(edges) > low) & (middle(edges) < high)
        assert found[part].sum() * np.diff(edges)[0] == pytest.approx(
            smoother.integrate_box_1d(low, high), abs=0.02
        )
    np.testing.assert_allclose(density(value, 7 * weight, edges), found, rtol=1e-9)


def test_a_density_of_probabilities_stays_within_them_and_keeps_its_ends():
    value = np.random.default_rng(2).beta(
        1, 3, 5000
    )  # highest at 0, where a kernel alone would lose half
    edges = bin_edges(value, bounded=True)
    found = density(value, np.ones(5000), edges)
    assert (
        edges[0] == 0
        and edges[-1] <= 1
        and found.sum() * np.diff(edges)[0] == pytest.approx(1, rel=1e-9)
    )
    assert found[0] == pytest.approx(beta(1, 3).pdf(0), rel=0.1)
    assert bin_edges(value * 1e5, bounded=False)[0] == 0 > bin_edges(value - 0.5, bounded=False)[0]


def test_far_values_do_not_squeeze_the_view_and_are_missing_from_the_integral():
    value = np.append(np.random.default_rng(3).normal(size=999), 1e6)
    edges = bin_edges(value, bounded=False)
    assert edges[-1] < 20
    assert density(value, np.ones(1000), edges).sum() * np.diff(edges)[0] == pytest.approx(
        0.999, rel=1e-9
    )


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0, -3e4])
def test_a_density_of_one_value_is_a_peak_at_it(value):
    values = np.full(50, value)
    edges = bin_edges(values, bounded=0 <= value <= 1)
    found = density(values, np.ones(50), edges)
    assert found.sum() * np.diff(edges)[0] == pytest.approx(1, rel=1e-9)
    assert abs(middle(edges)[found.argmax()] - value) <= 2 * np.diff(edges)[0]


def test_half_of_the_rows_at_one_value_do_not_hide_the_shape_of_the_others():
    value = np.append(np.zeros(600), np.random.default_rng(4).normal(3, 1, 400))
    edges = bin_edges(value, bounded=False)
    found = density(value, np.ones(1000), edges)
    inner = (middle(edges) > 1.5) & (middle(edges) < 4.5)
    assert (np.diff(np.sign(np.diff(found[inner]))) != 0).sum() <= 5  # no comb of single rows


def test_atoms_are_values_of_many_rows():
    value, weight = np.array([0.1] * 3 + [0.2] * 2 + [*np.linspace(0.3, 0.9, 35)]), np.ones(40)
    weight[0] = 5.0
    place, share = atoms(value, weight)
    assert place.tolist() == [0.1] and share.tolist() == [7 / 44]
    assert atoms(np.append(np.linspace(0, 1, 400), [0.5] * 4), np.ones(404))[0].size == 0


# transport


def test_arrows_start_at_the_deciles_and_do_not_cross():
    rng = np.random.default_rng(5)
    before, weight = rng.normal(size=901), np.ones(901)
    arrows = deciles(before, np.exp(before), weight)
    np.testing.assert_allclose(arrows[:, 0], np.quantile(before, np.arange(1, 10) / 10), atol=0.01)
    assert (np.diff(arrows, axis=0) > 0).all() and np.array_equal(
        arrows[:, 1], np.exp(arrows[:, 0])
    )
    heavy = np.where(before > 1, 1e6, 1.0)
    assert deciles(before, before, heavy)[0, 0] > 1
    assert deciles(np.array([3.0, 1.0]), np.array([5.0, 4.0]), np.ones(2)).tolist() == [
        [1, 4],
        [3, 5],
    ]


def test_every_lane_has_the_arrows_of_its_group():
    audit = make(levels=(tuple("abc"),))
    ax = draw_arrows(audit).axes[0]
    fields = [c for c in ax.collections if type(c).__name__ == "Quiver"]
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "a (54)",
        "b (53)",
        "c (53)",
    ] and len(fields) == 3
    for field, group in zip(fields, groups_of(audit), strict=True):
        expected = deciles(
            audit.before[group.rows, 0], audit.after[group.rows, 0], np.ones(len(group.rows))
        )
        np.testing.assert_allclose(np.stack([field.X, field.X + field.U], axis=1), expected)
    many = draw_arrows(make(levels=(tuple("abcdefghijkl"),)))
    assert (
        len(many.axes[0].get_yticklabels()) == MOST_LANES
        and "10 largest of 12" in many.get_suptitle()
    )


# what is drawn


def test_of_more_than_eight_groups_the_seven_largest_have_a_colour():
    audit = make(levels=(tuple("abcdefghi"),), rows=400)
    audit = audit._replace(cell=np.where((audit.cell == 4) & (np.arange(400) > 200), 0, audit.cell))
    colours = {group.name: group.colour for group in groups_of(audit)}
    assert [name for name, colour in colours.items() if colour == REST_COLOUR] == [
        "e",
        "i",
    ] and len(set(colours.values())) == 8
    legend = [text.get_text() for text in draw_densities(audit).legends[0].get_texts()]
    assert len(legend) == 8 and legend[-1].startswith("2 smaller groups (")
    assert (
        len(
            {group.colour for group in groups_of(make(levels=(tuple("abcdefgh"),)))} - {REST_COLOUR}
        )
        == 8
    )


def test_densities_before_stand_above_those_after():
    audit = make()
    above, below = draw_densities(audit).axes
    assert "before: KS 0.500 (chance 0.080)" in above.get_title("right")
    assert "after: KS 0.100 (chance 0.080)" in below.get_title("right")
    for ax, scores in ((above, audit.before), (below, audit.after)):
        for line, group in zip(ax.lines, groups_of(audit), strict=True):
            x, y = line.get_data()
            assert y.sum() * (x[1] - x[0]) == pytest.approx(1, rel=1e-6)
            assert (x * y).sum() * (x[1] - x[0]) == pytest.approx(
                scores[group.rows, 0].mean(), abs=0.02
            )


def test_few_rows_are_ticks_and_shared_values_dots():
    audit = make(levels=(("many", "few"),))
    cell = np.where(np.arange(160) < 157, 0, 1)
    ax = draw_densities(audit._replace(cell=cell, before=np.round(audit.before, 1))).axes[0]
    ticks = [line for line in ax.lines if line.get_marker() == "|"]
    assert len(ticks) == 1 and len(ticks[0].get_xdata()) == 3
    dots = [c for c in ax.collections if type(c).__name__ == "PathCollection"]
    assert set(dots[0].get_offsets()[:, 0].round(1)) <= {
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
        0.6,
        0.7,
        0.8,
        0.9,
    }
    assert len(dots[0].get_offsets()) >= 5


def test_bars_of_the_waterfall_are_the_steps():
    audit = make(tasks=("a", "b"), levels=(("x", "y"), ("u", "v")))
    for t, ax in enumerate(draw_waterfall(audit).axes):
        solid = [bar for bar in ax.patches if not bar.get_hatch()]
        np.testing.assert_allclose(
            [bar.get_height() for bar in solid], audit.steps[0, :, t].ravel()
        )
        gone = [bar.get_height() for bar in ax.patches if bar.get_hatch()]
        np.testing.assert_allclose(gone, -np.diff(audit.steps[0, :, t].sum(axis=1)))
        lines = [line.get_ydata() for line in ax.lines]
        assert any(np.allclose(line, 2 * 0.08) for line in lines)  # the floors of both attributes
        assert any(
            len(line) == 3 and np.allclose(line, audit.steps[1, :, t].sum(axis=1)) for line in lines
        )


@pytest.mark.parametrize("risk", [True, False])
def test_the_path_is_cost_against_distance(risk):
    audit = make(levels=(("x", "y"), ("u", "v")), risk=risk)
    ax = draw_path(audit).axes[0]
    paths, floors = (
        [line for line in ax.lines if len(line.get_xdata()) == 3],
        [a for a in ax.lines if len(a.get_xdata()) == 2],
    )
    assert len(paths) == len(floors) == 3 and all(floor.get_ydata()[0] == 0.08 for floor in floors)
    for a, line in enumerate(paths):
        np.testing.assert_allclose(
            line.get_xdata(), audit.risk[:, 0] if risk else audit.change[:, 0]
        )
        np.testing.assert_allclose(line.get_ydata(), audit.gaps["kolmogorov_smirnov"][:, 0, a])
    assert ax.get_xlabel() == "1 - AUC" if risk else "root mean squared change" in ax.get_xlabel()
    assert [text.get_text() for text in ax.texts] == ["1", "0.5", "amount 0"]


def test_the_amount_that_the_scores_are_at_is_found_by_how_much_they_changed():
    audit = make(tasks=("a", "b"))
    assert nearest_step(audit) == 2
    assert nearest_step(audit._replace(after=(audit.before + audit.after) / 2)) == 1
    assert nearest_step(audit._replace(after=audit.before)) == 0
    assert nearest_step(audit._replace(after=audit.before, change=0 * audit.change)) == 2


def test_scores_between_two_steps_of_the_path_are_told_as_they_were_measured():
    audit = make()
    own = {"kolmogorov_smirnov": np.full((1, 1), 0.123), "wasserstein": np.full((1, 1), 0.0456)}
    audit = audit._replace(after=0.3 * audit.before + 0.7 * audit.after, reached=own)
    said = html.unescape(report.repair_section(audit))
    assert (
        "from 0.500 to 0.123 between groups" in said
        and f"changed by {0.7 * audit.change[-1, 0]:.3f} in the root" in said
    )
    assert "1 - AUC went from" not in said and cells(said, "Unfairness")[2][2::3] == [
        "0.123",
        "0.046",
    ]
    assert "after: KS 0.123" in draw_densities(audit).axes[1].get_title("right")


# the files


def test_the_named_files_are_written_and_the_page_holds_the_pictures(tmp_path):
    audit = make()
    paths = report.write_repair(
        tmp_path / "new" / "out", audit, title="A <title>", command="fairjax repair a.csv --x '<y>'"
    )
    assert (
        [p.name for p in paths]
        == FILES
        == sorted((p.name for p in (tmp_path / "new/out").iterdir()), key=FILES.index)
    )
    page = paths[-1].read_text("utf-8")
    held = [
        base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    assert held == [p.read_bytes() for p in paths[:-1]] and all(
        png[:8] == b"\x89PNG\r\n\x1a\n" for png in held
    )
    assert (
        "<h1>A &lt;title&gt;</h1>" in page
        and "fairjax repair a.csv --x '&lt;y&gt;'" in page.replace("&#39;", "'")
    )
    assert page.count("<figcaption>") == 4
    again = report.write_repair(
        tmp_path, audit, title="A <title>", command="fairjax repair a.csv --x '<y>'"
    )
    assert [p.read_bytes() for p in again] == [p.read_bytes() for p in paths]


def cells(page, heading):
    part = page.split(f"<h3>{heading}</h3>")[1].split("</table>")[0]
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr.*?</tr>", part)
    ]


def test_tables_hold_the_audit(tmp_path):
    audit = make(tasks=("a", "b"), levels=(("x", "y"), ("u", "v")))
    page = report.write_repair(tmp_path, audit)[-1].read_text("utf-8")
    unfair = cells(page, "Unfairness")
    assert unfair[1] == ["a"] and unfair[3][:4] == ["attribute 1", "0.501", "0.101", "0.080"]
    assert unfair[8] == ["all attributes crossed", "0.512", "0.112", "0.080", "0.256", "0.056"]
    group, mine = cells(page, "Groups")[2], audit.cell == 1
    moved = np.sqrt(np.mean((audit.after - audit.before)[mine] ** 2, axis=0))
    expected = np.stack(
        [audit.before[mine].mean(axis=0), audit.after[mine].mean(axis=0), moved], axis=1
    )
    assert group == ["x & v", "40", "400", *(f"{v:.3f}" for v in expected.ravel())]
    assert cells(page, "Price")[3] == [
        "0.5",
        f"{audit.change[1, 0]:.3f}",
        "0.250",
        "0.300",
        "0.301",
        "0.302",
    ]
    said = html.unescape(page)
    assert (
        "a: the largest Kolmogorov-Smirnov distance went from 0.500 to 0.100 between groups of"
        " attribute 0" in said
    )
    assert "1 - AUC went from 0.200 to 0.300" in said


def test_warnings_say_who_is_few_unknown_unseen_or_tied(tmp_path):
    audit = make(levels=(tuple("abcde"),), rows=1000)
    cell = np.select([np.arange(1000) < 4, audit.cell == 3, audit.cell == 4], [5, 0, 2], audit.cell)
    cell[4:7] = 3
    weight = np.ones(1000)
    weight[7:9], before = 0.0, np.where(np.arange(1000)[:, None] % 2, 0.5, audit.before)
    before[9] = np.nan
    audit = audit._replace(
        cell=cell, weight=weight, before=before, mass=np.array([4000.0, 2000, 2000, 30, 0])
    )
    page = html.unescape(report.write_repair(tmp_path, audit)[-1].read_text("utf-8"))
    said = page.split('class="notes"')[1].split("</ul>")[0]
    chance = 0.87 * np.sqrt(
        1 / 3 + 1 / np.bincount(cell[(weight > 0) & np.isfinite(before[:, 0])]).max()
    )
    assert f"d (30 in the pool, 3 reported: about {chance:.2f})" in said
    assert (
        "no reported row and are not shown: e." in said and "Of 4 rows the group is unknown" in said
    )
    assert "1 rows with a score that is not finite" in said and "income: 50 % of the rows" in said
    unseen = audit._replace(mass=np.array([4000.0, 0, 2000, 300, 300]))
    assert "ranked among all rows: b." in html.unescape(report.repair_section(unseen))


SHAPES = {
    "one task of incomes, no risk": make(units="", risk=False),
    "four tasks": make(tuple("abcd"), risk=False),
    "three attributes": make(levels=(("x", "y"), ("u", "v"), ("p", "q"))),
    "risk unknown for one task": (lambda a: a._replace(risk=a.risk * [1, np.nan]))(
        make(("a", "b"))
    ),
    "every group unknown": (lambda a: a._replace(cell=np.full(160, 2)))(make()),
    "one group": (
        lambda a: a._replace(
            cell=np.zeros(160, int),
            steps=a.steps * np.nan,
            floor=a.floor * np.nan,
            gaps={k: v * np.nan for k, v in a.gaps.items()},
        )
    )(make()),
    "one score": (
        lambda a: a._replace(
            before=a.before * 0,
            after=a.before * 0,
            change=a.change * 0,
            steps=a.steps * 0,
            gaps={k: v * 0 for k, v in a.gaps.items()},
        )
    )(make(risk=False)),
    "no row of weight": (lambda a: a._replace(weight=a.weight * 0))(make()),
}


@pytest.mark.parametrize("case", SHAPES)
def test_whatever_the_audit_there_is_a_report(tmp_path, case):
    audit = SHAPES[case]
    paths = report.write_repair(tmp_path, audit)
    assert [p.name for p in paths] == FILES and all(p.stat().st_size for p in paths)
    page = html.unescape(paths[-1].read_text("utf-8"))
    assert ("no two groups to compare" in page) == (case == "one group")
    assert not re.search(r"\bnan\b", re.sub(r'src="[^"]*"', "", page))


# names of other people


def test_markup_of_the_page_is_ours_alone(tmp_path):
    names = (*HOSTILE[2:], "_", "{{command}}")
    audit = make(tasks=HOSTILE[:1], levels=(names[:3], names[3:]))._replace(
        attributes=names[1:3], risk_name=names[2:3]
    )
    page = report.write_repair(tmp_path, audit, title=HOSTILE[4], command=HOSTILE[3])[-1].read_text(
        "utf-8"
    )
    plain = report.write_repair(
        tmp_path / "plain", make(("a",), (tuple("abc"), tuple("efg"))), title="t", command="c"
    )[-1].read_text("utf-8")

    def elements(text):
        return sorted(re.findall(r"<[/!]?[a-z]+", text.replace("<li>", "")))

    assert [e for e in elements(page) if e != "</li"] == [e for e in elements(plain) if e != "</li"]
    assert "<script" not in page and "default-src 'none'" in html.unescape(page)
    assert (
        set(re.findall(r'(?:src|href)="?([a-z]*:)', page)) == {"data:"}
        and "url(" not in page
        and "@import" not in page
    )
    assert html.escape(HOSTILE[0]) in page and "{{command}}" in page


def test_names_are_drawn_literally():
    from matplotlib.text import Text

    audit = make(tasks=("$x_1$",), levels=(("$\\frac{1$", "_a"), ("u", "v")))._replace(
        attributes=("$b$", "$\\c$")
    )
    for draw in (draw_densities, draw_arrows, draw_waterfall, draw_path):
        figure = draw(audit)
        assert figure.axes[0].get_title("left").strip() == "$x_1$"
        named = [
            text
            for text in figure.findobj(Text)
            if re.search(r"\$(x_1|\\f|b|\\c)", text.get_text())
        ]
        assert len(named) > 1 and not [text.get_text() for text in named if text.get_parse_math()]


# in the page of a sweep


def test_the_section_stands_in_the_page_of_a_sweep(tmp_path):
    table, info = runs()
    info["repair"] = {"run": 7, "method": "<mtaf>"}
    audit = make(levels=(HOSTILE[:2],))
    report.write(tmp_path, table, info, repair=audit)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count('<section class="repair">') == 1 and page.count("<figure>") == 4
    assert f'<th scope="row">{html.escape(HOSTILE[0])}</th>' in page and "<dt>repair" not in page
    assert "<h2>Repair of run 7 (&lt;mtaf&gt;)</h2>" in page
    plain = report.write_page(tmp_path / "plain.html", lay_out(table, info)).read_text("utf-8")
    assert 'class="repair"' not in plain


def test_without_matplotlib_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"fairjax\[plot\]"):
        report.write_repair(tmp_path / "out", make())
    assert not (tmp_path / "out").exists()


def test_drawing_leaves_matplotlib_as_it_was():
    matplotlib = pytest.importorskip("matplotlib")
    before = dict(matplotlib.rcParams)
    section = report.repair_section(make(rows=1000))
    assert (
        dict(matplotlib.rcParams) == before and 'class="notes"' not in section
    )  # nor is there anything to warn of
