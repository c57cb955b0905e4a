"""Training rows with the vectors of their time, read by Feast from a table that featstore keeps.

    pip install "feast[duckdb,delta]"
    export FEAST_TABLE=featstore-data/features/photos/resnet50-…     the table was made with extract --history
    cd jobs/feast && feast apply
    python read.py rows.parquet joined.parquet                       rows has item_id and event_timestamp

DuckDB fetches its reader of Delta tables when it is first needed. Where it cannot: install duckdb==1.5.5,
duckdb-extension-delta==1.5.5 and duckdb-extensions, and once call duckdb_extensions.import_extension("delta").

``Store.get_features`` needs none of this; it is for those who have Feast already.

Checked: with Feast 0.67 and DuckDB 1.5.5 in an environment of their own, by a test that compares each vector with what
``Store.get_features`` says. Feast is given created_ts alone: a table with --time-column counts from event_ts too, which
takes featstore's own reading. It also reads both tables whole.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from feast import FeatureStore


def vectors_at(repository: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``embedding``: what counted at each one's ``event_timestamp``, or nothing."""
    found = (
        FeatureStore(repo_path=str(repository))
        .get_historical_features(
            entity_df=rows,
            features=["current:embedding", "left:embedding", "left:superseded_ts", "left:superseded_as"],
            full_feature_names=True,
        )
        .to_df()
    )
    # A current row is newer than all that have left. One that was removed counts until then; one that was replaced
    # counts until the row that took its place, which is found instead of it.
    gone = (found["left__superseded_as"] == "removed") & (found["left__superseded_ts"] <= found["event_timestamp"])
    kept = found["left__embedding"].mask(gone)
    found["embedding"] = found["current__embedding"].where(found["current__embedding"].notna(), kept)
    return found[[*rows.columns, "embedding"]]


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    vectors_at(Path(__file__).parent, pd.read_parquet(source)).to_parquet(target)
