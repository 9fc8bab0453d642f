"""Drift of microscope, stain and model is seen in time, and what does not drift raises no alarm."""

from __future__ import annotations

import time
from collections import Counter
from datetime import date, timedelta

import numpy as np
import pytest
from evidence_runs import counted, patients, record, write_day
from fakes import rows

from wbc_cli.classes import DIFFERENTIAL_NAMES
from wbc_cli.monitoring.control import Group, ReferenceStatistics, chart, reach_of, reference_statistics
from wbc_cli.monitoring.monitor import Period, groups_of, monitor
from wbc_cli.monitoring.reading import Slide

# NIST/SEMATECH e-Handbook of Statistical Methods, section 6.3.2.4, "EWMA Control Charts".
NIST = (
    *(52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5),
    *(49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1),
)
NIST_EWMA = (
    *(50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33),
    *(50.11, 49.36, 49.92, 50.34, 49.58, 50.07, 50.83, 51.30, 51.99, 52.02),
)
START = date(2026, 1, 1)
EVERY = 1000  # days between false alarms, the command's default


def single(value, weight=1.0):
    return Group(np.array([value]), np.array([weight]))


def laboratory(seed, days, drift=lambda day: 1.0, slides=6):
    """Slides of so many days: days differ by 3 %, slides by 4 %, and patients as patients do."""
    random = np.random.default_rng(seed)
    for day in range(days):
        of_day = {"focus": 0.7, "background": 225.0, "nucleus": 1.2 * drift(day), "colour": 0.6, "hue": 0.2}
        of_day = {name: value * (1 + random.normal(0, 0.03)) for name, value in of_day.items()}
        for number, shares in enumerate(patients(random, 1 + random.poisson(slides - 1))):
            cells = int(random.integers(80, 300))
            counts = counted(random, shares, cells) | {"unidentified": int(random.binomial(cells, 0.02))}
            figures = {name: value * (1 + random.normal(0, 0.04)) for name, value in of_day.items()}
            atypical = random.binomial(cells, 0.02) / cells
            slide = record(f"{day}-{number}.png", counts, atypical=atypical, **figures)
            yield Slide((START + timedelta(day)).isoformat(), slide, random.normal(0.95, 0.01))


def watched(slides, reference=20):
    groups = groups_of(slides, False)
    return monitor(slides, groups, Period(groups[0], groups[reference - 1]), EVERY)


# --- the charts


def test_the_moving_average_and_its_limits_are_those_of_the_nist_handbook(monkeypatch):
    monkeypatch.setattr("wbc_cli.monitoring.control.EWMA_WEIGHT", 0.3)
    known = ReferenceStatistics(centre=50.0, between=2.0539**2, within=0.0, of_centre=0.0, freedom=np.inf)
    found = chart([single(value) for value in NIST], [True] * len(NIST), known, reach=3)
    assert found.average[:12] == pytest.approx(NIST_EWMA[:12], abs=0.011)
    assert round(found.average_high[-1], 2) == 52.59
    assert round(found.average_low[-1], 2) == 47.41
    assert found.high == pytest.approx(50 + 3 * 2.0539)


def test_three_standard_deviations_are_what_0_27_percent_of_false_alarms_gives():
    assert reach_of(0.0027, np.inf) == pytest.approx(3, abs=1e-3)
    assert reach_of(0.05, 10) == pytest.approx(2.228, abs=1e-3)  # the table of Student's t


def test_limits_learned_from_few_groups_hold_a_further_one_as_often_as_they_say():
    random, outside = np.random.default_rng(0), 0
    for _ in range(2000):
        learned = reference_statistics([single(value) for value in random.normal(10, 2, 8)], 0)
        found = chart([single(random.normal(10, 2))], [True], learned, reach_of(0.05, learned.freedom))
        outside += not found.low[0] <= found.values[0] <= found.high[0]
    assert outside / 2000 == pytest.approx(0.05, abs=0.015)


def test_a_day_with_few_slides_has_wider_limits_than_one_with_many():
    random = np.random.default_rng(1)

    def day(slides):
        return Group(random.normal(1, 0.2, slides) + random.normal(0, 0.01), np.ones(slides))

    learned = reference_statistics([day(10) for _ in range(30)], 0)
    assert learned.within == pytest.approx(0.04, rel=0.3)
    assert learned.between < 0.004
    few, many = (chart([day(slides)], [True], learned, 3) for slides in (1, 100))
    assert few.high[0] - few.low[0] > 4 * (many.high[0] - many.low[0])


# --- drift


def test_a_stain_that_fades_by_20_percent_in_20_days_is_seen_within_three_days_of_its_limit():
    for seed in range(5):
        found = watched(list(laboratory(seed, 55, lambda day: 1 - 0.01 * min(20, max(0, day - 30)))))
        stain = next(each for each in found.figures if each.figure.name == "nucleus")
        truth = 1.2 * (1 - 0.01 * np.clip(np.arange(55) - 30, 0, 20))
        passed = min([*np.flatnonzero(truth < stain.chart.low), 50])  # the day on which the true stain passes the limit
        seen = [found.groups.index(alarm.group) for alarm in found.alarms if alarm.figure.name == "nucleus"]
        assert 30 <= min(seen) <= passed + 3


def test_sixty_days_without_drift_raise_at_most_one_alarm():
    alarms = [len({(a.group, a.figure.name) for a in watched(list(laboratory(seed, 80))).alarms}) for seed in range(5)]
    assert max(alarms) <= 1


def test_another_magnification_and_a_model_less_sure_are_seen_at_once():
    slides = list(laboratory(3, 30))
    for slide in (slide for slide in slides if slide.group == "2026-01-30"):
        slide.record["scale"]["um_per_px"] = 0.25
    found = watched([Slide(s.group, s.record, 0.8 if s.group == "2026-01-30" else s.confidence) for s in slides])
    assert {alarm.figure.name for alarm in found.alarms} == {"um_per_px", "confidence"}
    assert {alarm.group for alarm in found.alarms} == {"2026-01-30"}


def test_refused_slides_tell_of_the_picture_and_not_of_the_patients():
    slides = list(laboratory(4, 30))
    for slide in (slide for slide in slides if slide.group == "2026-01-30"):
        slide.record["status"] = "refused"
        slide.record["quality"]["focus"] = 0.3
        slide.record["differential"]["classes"]["basophil"]["percent"] = 100.0
    assert {alarm.figure.name for alarm in watched(slides).alarms} == {"focus"}


# --- the command


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run a day for 30 days; from the 25th on nuclei are pale."""
    folder = tmp_path_factory.mktemp("runs")
    slides = list(laboratory(7, 30, lambda day: 0.7 if day >= 25 else 1.0, slides=3))
    for day in groups_of(slides, False):
        noon = time.mktime(time.strptime(f"{day} 12", "%Y-%m-%d %H"))
        of_day = [(s.record, _few(s.record)) for s in slides if s.group == day]
        write_day(folder / f"run-{day}", of_day, noon)
    return sorted(folder.iterdir())


def _few(slide):
    """A tenth of the cells, so that the tables are small; the counts stay."""
    return {name: slide["differential"]["classes"][name]["count"] // 10 for name in DIFFERENTIAL_NAMES}


def test_a_broken_limit_is_one_line_for_cron_and_exit_code_3(call, runs, tmp_path):
    answer = call("monitor", *runs, "-o", tmp_path, "--quiet")
    assert answer.code == 3
    assert answer.err == ""
    (line,) = answer.out.splitlines()
    assert "Stain of the nuclei" in line
    assert "below its limit on 2026-01-30" in line
    assert "first on 2026-01-26" in line
    table = rows(tmp_path / "monitor.csv")
    stain = {row["group"]: row for row in table if row["figure"] == "nucleus"}
    assert len(stain) == 30
    assert Counter(row["period"] for row in stain.values()) == {"reference": 20, "judged": 10}
    assert stain["2026-01-26"]["broken"].startswith("Shewhart")
    assert float(stain["2026-01-26"]["value"]) < float(stain["2026-01-26"]["low"])
    assert stain["2026-01-10"]["ewma"] == ""
    assert (tmp_path / "monitor.html").exists()


def test_without_a_broken_limit_nothing_is_said_on_standard_output(call, runs, tmp_path):
    answer = call("monitor", *runs[:25], "-o", tmp_path)
    assert (answer.code, answer.out) == (0, "")
    assert "note:" not in answer.err
    assert "held against 2026-01-01 to 2026-01-20: 5 days" in answer.err


def test_after_an_alarm_has_been_dealt_with_only_later_days_are_judged(call, runs, tmp_path):
    answer = call("monitor", *runs, "-o", tmp_path, "--since", "2026-02-01")
    assert answer.code == 0
    assert "Nothing that is to be judged comes after the reference period" in answer.err


def test_a_reference_period_can_be_any_stretch_of_days_or_of_runs(call, runs, tmp_path):
    answer = call("monitor", *runs, "-o", tmp_path, "--reference", "2026-01-05:2026-01-16")
    assert answer.code == 3
    periods = {row["group"]: row["period"] for row in rows(tmp_path / "monitor.csv")}
    assert "The reference period has 12 days or batches; of fewer than 20 the limits are wide" in answer.err
    assert (periods["2026-01-04"], periods["2026-01-05"], periods["2026-01-17"]) == ("", "reference", "judged")
    names = [run.name for run in runs]
    answer = call("monitor", *runs, "-o", tmp_path, "--by", "run", "--reference", f"{names[0]}:{names[9]}")
    assert answer.code == 3
    assert "run-2026-01-30" in answer.out


def test_days_can_be_given_and_a_slide_in_two_runs_counts_once(call, runs, tmp_path):
    names = {path.name: run.name[4:] for run in runs for path in (run / "slides").iterdir()}
    table = tmp_path / "days.csv"
    table.write_bytes("\n".join(["slide;date", *(f"{n};2025{d[4:]}" for n, d in names.items())]).encode("utf-16"))
    answer = call("monitor", *runs[:25], *runs[:3], "-o", tmp_path, "--dates", table)
    assert answer.code == 0
    found = rows(tmp_path / "monitor.csv")
    assert found[0]["group"] == "2025-01-01"
    assert int(found[0]["slides"]) == len(list((runs[0] / "slides").iterdir()))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--reference", "3"), "--reference 3: holds 3 of 30 days or batches; limits need 5 or more"),
        (("--reference", "2027-01-01:2027-02-01"), "holds 0 of 30"),
        (("--by", "run", "--reference", "a:z"), "holds 0 of 30"),
        (("--since", "yesterday"), "--since yesterday: give a day, as 2026-01-31"),
        (("--by", "run", "--since", "nowhere"), "--since nowhere: give one of the runs"),
    ],
)
def test_periods_that_hold_nothing_are_refused(call, runs, tmp_path, options, why):
    answer = call("monitor", *runs, "-o", tmp_path, *options)
    assert answer.code == 2
    assert why in " ".join(answer.err.split())


def test_what_is_no_run_and_no_date_is_refused(call, runs, tmp_path):
    answer = call("monitor", tmp_path, "-o", tmp_path / "out")
    assert answer.code == 2
    assert "holds no slides" in answer.err
    table = tmp_path / "days.csv"
    table.write_text("slide,date\n0-0.png,1.2.2026\n")
    answer = call("monitor", *runs, "-o", tmp_path / "out", "--dates", table)
    assert answer.code == 2
    assert "line 2: '1.2.2026' is no date" in " ".join(answer.err.split())
    table.write_text("slide,date\n0-0.png,2026-02-01\n")
    answer = call("monitor", *runs, "-o", tmp_path / "out", "--dates", table)
    assert answer.code == 2
    assert "has no date of" in answer.err
