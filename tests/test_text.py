"""Texts: vocabularies of training rows, any tokenizer, the model against a float64 brute force."""

from __future__ import annotations

import csv
import dataclasses
import gzip
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import double

from fairjax.core.types import Attribute, Sentences, Spec, Task
from fairjax.data import DataError, Encoder, Roles, from_sentences, from_table, load, token_column
from fairjax.data.sets.multilingual_hate import FILES, LANGUAGES
from fairjax.models import network, scores, text_encoder

N = 60
ROLES = Roles(
    tasks=("rude",), sensitive=("sex",), text="said", language="tongue", split="part", length=4
)
WORDS = {"de": ["ja", "nein", "so"], "en": ["so", "go", "NA", "007", "1"]}


def rows(**changes) -> dict[str, list]:
    """Two languages that share a word; a test row has its own word, training rows ``once3``, ..."""
    rng = np.random.default_rng(0)
    tongue = ["de" if i % 3 else "en" for i in range(N)]
    part = ["test" if i % 5 == 4 else "train" for i in range(N)]
    said = [
        [*rng.choice(WORDS[t], i % 4), "held out" if p == "test" else f"once{i}"]
        for i, (t, p) in enumerate(zip(tongue, part, strict=True))
    ]
    columns = {
        "said": [" ".join(words) for words in said],
        "tongue": tongue,
        "part": part,
        "sex": ["f", "m"] * (N // 2),
        "rude": rng.integers(0, 2, N).tolist(),
    }
    return columns | changes


def table(fractions=(0.6, 0.0, 0.4), **changes):
    return from_table(rows(**changes), ROLES, fractions=fractions)


# ------------------------------------------------------------ vocabularies and ids


def test_vocabularies_hold_the_frequent_words_of_their_languages_training_rows():
    data, columns = table(), rows()
    for vocabulary, language in zip(data.encoder.vocabularies, ("de", "en"), strict=True):
        cells = [
            c
            for c, t, p in zip(columns["said"], columns["tongue"], columns["part"], strict=True)
            if (t, p) == (language, "train")
        ]
        counts = Counter(word for cell in cells for word in cell.split()[:4])
        assert vocabulary.language == language
        assert (
            set(vocabulary.words)
            == {word for word, count in counts.items() if count >= 2}
            == set(WORDS[language])
        )
        found = [counts[word] for word in vocabulary.words]
        assert found == sorted(found, reverse=True)
    assert data.spec.vocab_size == 1 + sum(1 + len(words) for words in WORDS.values())


def test_ids_are_padding_then_each_languages_unknown_and_words():
    data = table()
    (_, de), (_, en) = data.encoder.vocabularies
    of = {("de", w): 2 + i for i, w in enumerate(de)} | {
        ("en", w): 3 + len(de) + i for i, w in enumerate(en)
    }
    unknown = {"de": 1, "en": 2 + len(de)}
    ids = data.encoder.encode(
        {
            "said": ["ja so", "so 007 NA", "  once3   go ", "", "so so so so go", "ja"],
            "tongue": ["de", "en", "de", "en", "en", "en"],
        }
    ).x.tokens
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(
        ids,
        [
            [of["de", "ja"], of["de", "so"], 0, 0],
            [of["en", "so"], of["en", "007"], of["en", "NA"], 0],
            [unknown["de"], unknown["de"], 0, 0],
            [0, 0, 0, 0],
            [of["en", "so"]] * 4,
            [unknown["en"], 0, 0, 0],
        ],
    )
    german = np.isin(rows()["tongue"], "de")[np.array(rows()["part"]) == "train"]
    used = [set(data.splits.train.x.tokens[which].ravel().tolist()) for which in (german, ~german)]
    assert used[0] & used[1] == {0} and used[0] | used[1] == set(range(data.spec.vocab_size))


def test_one_vocabulary_without_a_language_and_all_rows_where_asked():
    roles = Roles(tasks=("rude",), sensitive=("sex",), text="said", split="part", standardise="all")
    data = from_table(rows(), roles, fractions=(0.6, 0.0, 0.4))
    (vocabulary,) = data.encoder.vocabularies
    assert vocabulary.language == "" and {"held", "out"} <= set(vocabulary.words)
    assert data.splits.test.x.tokens.shape == (N // 5, 40) and "once3" not in vocabulary.words


def test_the_encoder_survives_json():
    data = table()
    again = Encoder.from_json(data.encoder.to_json())
    assert again == data.encoder and again.spec == data.spec
    np.testing.assert_array_equal(
        again.encode(rows()).x.tokens, data.encoder.encode(rows()).x.tokens
    )
    assert "4 tokens, words: de 3, en 5" in data.describe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tongue": ["fr" if i == 4 else "de" for i in range(N)]},
            r"'tongue': 1 of 60 rows .*never seen.*'fr'.*'de': leave",
        ),
        (
            {"tongue": ["" if i == 7 else "de" for i in range(N)]},
            r"'tongue': 1 of 60 rows have no language, row 7.*Fill",
        ),
    ],
)
def test_a_language_without_training_rows_is_refused(changes, message):
    with pytest.raises(DataError, match=message):
        table(**changes)


def test_new_rows_need_their_text_and_a_known_language():
    encoder = table().encoder
    with pytest.raises(
        DataError, match=r"'tongue': 2 of 3 rows .*never seen.*row 1 \('fr'\).*'de', 'en'"
    ):
        encoder.encode({"said": ["a", "b", "c"], "tongue": ["de", "fr", ""]})
    with pytest.raises(DataError, match="no column 'said'"):
        encoder.encode({"tongue": ["de"]})


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"features": ("sex",)}, "'features' beside text 'said'.*Leave them out"),
        ({"numeric": ("sex",), "use_sensitive": True}, "'numeric', 'use_sensitive' beside text"),
        ({"length": 0}, "length is 0"),
        ({"minimum": 0}, "minimum is 0"),
        ({"text": None}, "language 'tongue' without a text.*Name"),
        ({"text": "rude"}, "'rude' cannot be a feature"),
        ({"drop": ("said",)}, "'said' cannot be a feature.*dropped"),
        ({"text": "sayd"}, "no column 'sayd'.*'said'"),
        ({"language": "lang"}, "no column 'lang'"),
    ],
)
def test_roles_that_contradict_a_text(roles, message):
    with pytest.raises(DataError, match=message):
        from_table(rows(), dataclasses.replace(ROLES, **roles))


# ------------------------------------------------------------ any tokenizer


def test_from_sentences_is_from_table_with_the_tokens_as_a_column():
    columns = rows()
    said = columns.pop("said")
    one = from_sentences(said, columns, ROLES, fractions=(0.6, 0.0, 0.4))
    for got, want in zip(jax.tree.leaves(one.splits), jax.tree.leaves(table().splits), strict=True):
        np.testing.assert_array_equal(got, want)
    assert one.encoder == table().encoder


def test_a_tokenizer_may_give_integers():
    columns = {"sex": ["f", "m"] * 20, "rude": [0, 0, 1, 1] * 10}
    data = from_sentences(
        ["abca", "bb"] * 20,
        columns,
        Roles(tasks=("rude",), sensitive=("sex",)),
        tokenize=lambda text: [ord(c) for c in text],
    )
    assert (
        set(data.encoder.vocabularies[0].words) == {"97", "98", "99"}
        and data.encoder.roles.text == "text"
    )
    new = data.encoder.encode({"text": token_column(["ab", "z"], lambda text: map(ord, text))})
    place = {word: 2 + i for i, word in enumerate(data.encoder.vocabularies[0].words)}
    np.testing.assert_array_equal(new.x.tokens[:, :3], [[place["97"], place["98"], 0], [1, 0, 0]])


def test_tokens_with_blanks_and_a_taken_name_are_refused():
    with pytest.raises(
        DataError, match=r"1 of 2 texts have a token that holds a blank, row 1 \('b c'\).*replace"
    ):
        token_column(["a", "a,b c"], lambda text: text.split(","))
    assert token_column(["a  b"], lambda text: text.split(" ")).tolist() == ["a b"]
    with pytest.raises(DataError, match="a column 'said' already"):
        from_sentences(rows()["said"], rows(), ROLES)
    with pytest.raises(DataError, match="unequal length"):
        from_sentences(
            ["a"], {"sex": ["f", "m"], "rude": [0, 1]}, Roles(tasks=("rude",), sensitive=("sex",))
        )


# ------------------------------------------------------------ the model

SPEC = Spec(
    (Task("a"), Task("b", "multiclass", ("x", "y", "z"))),
    (Attribute("g", ("0", "1")),),
    vocab_size=11,
)
SHAPES = {
    "one": (3, 1),
    "deep": (3, 2),
    "even window": (4, 1),
    "single tokens": (1, 1),
}  # window, layers


def setting(name: str):
    """Model, parameters of every leaf away from zero, and texts of 0 to 7 tokens, one of them
    padding only.
    """
    window, layers = SHAPES[name]
    model = text_encoder(SPEC, embedding=3, width=5, window=window, layers=layers, head=(4,))
    rng = np.random.default_rng(3)
    params = jax.tree.map(
        lambda s: rng.normal(size=s.shape).astype(np.float32),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    lengths = np.array([7, 1, 0, 4, 2, 6])
    tokens = np.where(np.arange(7) < lengths[:, None], rng.integers(1, 11, (6, 7)), 0).astype(
        np.int32
    )
    return model, params, tokens


def brute_forward(params, tokens: np.ndarray, window: int, layers: int) -> np.ndarray:
    """Scores in float64, text by text: only its real tokens, position by position, tap by tap."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    out = []
    for text in tokens:
        h = [params["trunk"]["embedding"][t] for t in text if t > 0]
        for i in range(layers):
            layer = params["trunk"][f"convolution_{i}"]
            taps = layer["kernel"].reshape(window, -1, 5)
            h = [
                np.maximum(
                    layer["bias"]
                    + sum(
                        h[at] @ taps[k]
                        for k in range(window)
                        if 0 <= (at := place + k - (window - 1) // 2) < len(h)
                    ),
                    0,
                )
                for place in range(len(h))
            ]
        pooled = np.concatenate([np.max(h, axis=0), np.mean(h, axis=0)]) if h else np.zeros(10)
        z = np.maximum(
            pooled @ params["trunk"]["dense"]["kernel"] + params["trunk"]["dense"]["bias"], 0
        )
        row = []
        for task in SPEC.tasks:
            first, last = (
                params["heads"][task.name]["dense_0"],
                params["heads"][task.name]["output"],
            )
            row.append(
                np.maximum(z @ first["kernel"] + first["bias"], 0) @ last["kernel"] + last["bias"]
            )
        out.append(np.concatenate(row))
    return np.array(out)


@pytest.mark.parametrize("name", SHAPES)
def test_the_encoder_is_its_formula_however_texts_are_padded(name):
    model, params, tokens = setting(name)
    wide = np.pad(tokens, ((0, 0), (2, 3)))

    @jax.jit
    def run(params, tokens):
        return scores(model, params, Sentences(tokens)), jax.grad(
            lambda p: jnp.sum(jnp.sin(scores(model, p, Sentences(tokens))))
        )(params)

    got, grads = run(params, tokens)
    padded, padded_grads = run(params, wide)
    np.testing.assert_allclose(
        got, brute_forward(params, tokens, *SHAPES[name]), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(padded, got, rtol=1e-5, atol=1e-5)
    # gradients add up many rows: in double precision, so that only padding could tell them apart
    with double():
        exact = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
        grads_64 = run(exact, tokens)[1]
        padded_64 = run(exact, wide)[1]
    for one, other in zip(jax.tree.leaves(grads_64), jax.tree.leaves(padded_64), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
    table = np.asarray(grads["trunk"]["embedding"])
    assert not np.any(table[0]) and np.any(table[np.unique(tokens)[1:]])
    absent = np.setdiff1d(np.arange(11), tokens)
    assert not np.any(table[absent])


def test_gradients_are_those_of_the_formula():
    model, params, tokens = setting("one")
    grads = jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(scores(model, p, Sentences(tokens))))))(
        params
    )
    rng = np.random.default_rng(5)
    for _ in range(3):
        way = jax.tree.map(lambda a: rng.normal(size=a.shape), params)

        def along(step, way=way):
            moved = jax.tree.map(
                lambda a, direction: np.asarray(a, np.float64) + step * direction, params, way
            )
            return np.sum(np.sin(brute_forward(moved, tokens, 3, 1)))

        want = (along(1e-6) - along(-1e-6)) / 2e-6
        got = sum(map(np.vdot, jax.tree.leaves(grads), jax.tree.leaves(way)))
        assert got == pytest.approx(want, rel=1e-3, abs=1e-3)


def test_texts_of_padding_only_give_finite_scores_and_gradients():
    model, params, tokens = setting("one")
    empty = Sentences(np.zeros_like(tokens))
    value, grads = jax.jit(jax.value_and_grad(lambda p: jnp.sum(scores(model, p, empty))))(params)
    assert np.isfinite(value) and all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))
    assert not np.any(grads["trunk"]["embedding"]) and not np.any(
        grads["trunk"]["convolution_0"]["kernel"]
    )


def test_many_rows_go_in_blocks_and_members_go_together():
    model, params, tokens = setting("one")
    many = Sentences(np.tile(tokens, (400, 1)))  # more than one block, the last one short
    run = jax.jit(lambda p, x: scores(model, p, x))
    np.testing.assert_allclose(
        run(params, many), np.tile(run(params, Sentences(tokens)), (400, 1)), rtol=1e-5, atol=1e-5
    )
    members = jax.tree.map(lambda a: np.stack([a, -a]), params)
    together = jax.jit(jax.vmap(lambda p: scores(model, p, Sentences(tokens))))(members)
    for i in range(2):
        alone = run(jax.tree.map(lambda a, i=i: a[i], members), Sentences(tokens))
        np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-5)


def test_refusals_and_the_network_of_a_spec():
    with pytest.raises(ValueError, match=r"words 0.*Roles\(text=...\)"):
        text_encoder(Spec(SPEC.tasks, SPEC.attributes, ("x0",)))
    with pytest.raises(DataError, match=r"trunk \(8, 4\).*one width"):
        network(SPEC, (8, 4), (), 2)
    trunk = jax.eval_shape(network(SPEC, (8, 8), (3,), 2).init, jax.random.key(0))["trunk"]
    assert trunk["embedding"].shape == (11, 2) and trunk["convolution_1"]["kernel"].shape == (24, 8)
    flat = network(Spec(SPEC.tasks, SPEC.attributes, ("x0",)), (8, 4), (3,), 2)
    assert jax.eval_shape(flat.init, jax.random.key(0))["trunk"]["dense_1"]["kernel"].shape == (
        8,
        4,
    )


# ------------------------------------------------------------ hate in five languages


def test_multilingual_hate_is_what_its_files_hold(data_dir):
    if not (data_dir / "multilingual_hate").is_dir():
        pytest.skip("no raw files of multilingual_hate")
    data = load("multilingual_hate", data_dir=data_dir)
    raw, known, total = Counter(), Counter(), Counter()  # rows; of tweets kept: unknown cells, hate
    seen = set()
    for file in FILES:
        path = data_dir / "multilingual_hate" / file.name
        text = (
            path.read_text()
            if path.exists()
            else gzip.decompress(path.with_name(f"{file.name}.gz").read_bytes()).decode()
        )
        language = file.name.split(".")[0]
        for row in csv.DictReader(text.splitlines(), delimiter="\t"):
            raw[language] += 1
            if (language, row["tid"]) in seen:
                continue
            seen.add((language, row["tid"]))
            total[language, row["label"]] += 1
            known.update((name, row[name]) for name in ("gender", "age", "ethnicity"))
    assert raw == {
        "English": 25_363,
        "Polish": 10_919,
        "Italian": 5_778,
        "Spanish": 4_926,
        "Portuguese": 1_898,
    }
    mask = np.concatenate([s.label_mask for s in data.splits])
    hate = np.concatenate([s.labels * s.label_mask for s in data.splits])
    assert len(mask) == len(seen) == 48_237 and (mask.sum(1) == 1).all()
    assert [t.name for t in data.spec.tasks] == list(LANGUAGES)
    for t, language in enumerate(LANGUAGES):
        assert (mask[:, t].sum(), hate[:, t].sum()) == (
            total[language, "0"] + total[language, "1"],
            total[language, "1"],
        )
    groups = dict(
        zip(
            data.spec.group_names,
            sum(s.groups.sum(0) for s in data.splits).astype(int).tolist(),
            strict=True,
        )
    )
    assert groups == {
        "gender=male": known["gender", "0"],
        "gender=not male": known["gender", "1"],
        "age=below median": known["age", "0"],
        "age=above median": known["age", "1"],
        "ethnicity=white": known["ethnicity", "0"],
        "ethnicity=other": known["ethnicity", "1"],
    }
    for split in data.splits:  # a language's rows use its own part of the table
        low = 1
        for t, (language, words) in enumerate(data.encoder.vocabularies):
            tokens = split.x.tokens[split.label_mask[:, t] > 0]
            assert (
                language == LANGUAGES[t]
                and ((tokens == 0) | ((tokens >= low) & (tokens <= low + len(words)))).all()
            )
            low += 1 + len(words)
        assert split.x.tokens.max() < low == data.spec.vocab_size


# --------------------------------------------------------------------------------- the command line


@pytest.mark.slow
def test_a_text_is_trained_and_new_rows_are_scored_by_the_command_line(tmp_path):
    pytest.importorskip("click")
    from click.testing import CliRunner

    from fairjax.cli import main

    rng = np.random.default_rng(1)
    rude = rng.integers(0, 2, 240)
    said = [
        " ".join(rng.permutation([*rng.choice(["we", "they", "go"], 3), "damn" if r else "thanks"]))
        for r in rude
    ]

    def write(name, columns):
        with open(tmp_path / name, "w", newline="") as stream:
            csv.writer(stream).writerows([list(columns), *zip(*columns.values(), strict=True)])
        return str(tmp_path / name)

    path = write(
        "said.csv",
        {
            "said": said,
            "tongue": ["en", "xx"] * 120,
            "sex": rng.choice(["f", "m"], 240),
            "rude": rude,
            "id": range(240),
        },
    )
    common = [
        "--data",
        path,
        "--task",
        "rude",
        "--sensitive",
        "sex",
        "--text",
        "said",
        "--language",
        "tongue",
    ]
    done = CliRunner().invoke(
        main,
        [
            "train",
            *common,
            "--trunk",
            "4",
            "--head",
            "3",
            "--embedding",
            "3",
            "--epochs",
            "12",
            "--batch-size",
            "32",
            "--learning-rate",
            "0.2",
            "--lam",
            "0",
            "--method",
            "baseline",
            "--out",
            str(tmp_path / "model"),
        ],
    )
    assert done.exit_code == 0, done.output
    new = write(
        "new.csv",
        {
            "said": ["they damn go", "thanks we", "never heard", ""],
            "tongue": ["en", "xx", "en", "xx"],
        },
    )
    done = CliRunner().invoke(
        main, ["predict", str(tmp_path / "model"), new, "--out", str(tmp_path / "scored.csv")]
    )
    assert done.exit_code == 0, done.output
    with open(tmp_path / "scored.csv", newline="") as stream:
        prob = [float(row["rude"]) for row in csv.DictReader(stream)]
    assert prob[0] > 0.8 and prob[1] < 0.2 and all(0 < p < 1 for p in prob)
    refused = CliRunner().invoke(
        main, ["train", *common, "--features", "id", "--out", str(tmp_path / "no")]
    )
    assert refused.exit_code == 2 and "'features' beside text 'said'" in refused.output
