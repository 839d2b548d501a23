"""Tables are drawn in their own units, categories by their names."""

import numpy as np
import pandas as pd
import pytest

from tfvae.datasets import Schema
from tfvae.plotting import table_figure


def a_frame(rng, n=200):
    x = rng.normal(size=n)
    return pd.DataFrame(
        {
            "height": (170 + 10 * x).round(1),
            "weight": (70 + 12 * x + rng.normal(size=n)).round(1),
            "colour": rng.choice(["red", "green", "blue"], n, p=[0.6, 0.3, 0.1]),
            "town": rng.choice([f"town {i}" for i in range(12)], n),
            "kids": rng.poisson(1, n),
            "born": pd.Timestamp("1980-01-01") + pd.to_timedelta(rng.integers(0, 9000, n), "D"),
        }
    )


def test_columns_pairs_correlations_and_holes(rng):
    frame, made_up = a_frame(rng), a_frame(rng)
    frame.loc[::5, "weight"] = np.nan
    schema = Schema.from_frame(frame)
    figure = table_figure(frame, schema, made_up)
    columns, pairs, correlations, holes = figure.subfigs
    by_name = {panel.get_title(): panel for panel in columns.axes}
    colour = by_name["colour"]
    assert [tick.get_text() for tick in colour.get_xticklabels()] == ["blue", "green", "red"]
    heights = [bar.get_height() for bar in colour.patches]
    shares = [
        table["colour"].value_counts(normalize=True).sort_index() for table in (frame, made_up)
    ]
    np.testing.assert_allclose(heights, np.concatenate(shares))
    assert [tick.get_text() for tick in by_name["town"].get_xticklabels()][-1] == "others"
    first = pairs.axes[0]
    assert {first.get_xlabel(), first.get_ylabel()} == {"height", "weight"}
    found = correlations.axes[0].images[0].get_array()
    expected = frame[["height", "weight"]].rank().corr().iloc[0, 1]
    assert found[0, 1] == pytest.approx(expected, abs=0.02)
    np.testing.assert_allclose([bar.get_width() for bar in holes.axes[0].patches][:3], [0, 0.2, 0])


def test_a_table_by_itself_and_a_label(rng):
    frame = a_frame(rng)
    schema = Schema.from_frame(frame, label="colour")
    (columns,) = table_figure(frame, schema).subfigs
    titles = [panel.get_title() for panel in columns.axes if panel.axison]
    assert titles == ["height", "weight", "town", "kids", "born", "colour"]
    one = table_figure(frame[["height"]], Schema.from_frame(frame[["height"]]), frame[["height"]])
    assert len(one.subfigs) == 1
