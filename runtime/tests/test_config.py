"""The environment is checked as a whole, and documented from the same definitions."""

import dataclasses
from pathlib import Path

import pytest

from diffusers_runtime.config import SETTINGS, Config, ConfigError, load_config, settings_table
from diffusers_runtime.cpu_limit import usable_cpus


def test_an_empty_environment_gives_the_documented_defaults():
    config = load_config({})
    assert config.model_id == "/mnt/models"
    assert config.model_name == "model"
    assert (config.host, config.port, config.metrics_port) == ("127.0.0.1", 8080, 8888)
    assert (config.dtype, config.device, config.log_level) == ("auto", "auto", "info")
    assert config.enable_low_cpu_mem is True
    assert config.enable_attention_slicing is True
    assert config.enable_vae_slicing is True
    assert config.enable_cpu_offload is True
    assert config.torch_threads >= 1
    assert (config.queue_limit, config.max_instances, config.max_body_bytes) == (8, 8, 65536)
    assert (config.keepalive_seconds, config.drain_seconds) == (10, 60)


def test_every_setting_has_a_field_and_the_other_way_round():
    assert [s.name.lower() for s in SETTINGS] == [f.name for f in dataclasses.fields(Config)]


def test_all_problems_are_listed_at_once_with_value_and_what_is_allowed():
    wrong = {
        "MODEL_NAME": "a/b",
        "PORT": "http",
        "DTYPE": "int8",
        "ENABLE_VAE_SLICING": "maybe",
        "TORCH_THREADS": "0",
        "QUEUE_LIMIT": "-1",
        "DRAIN_SECONDS": "nan",
    }
    with pytest.raises(ConfigError) as caught:
        load_config(wrong)
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == list(wrong)
    for problem, value in zip(problems, wrong.values(), strict=True):
        assert repr(value) in problem
        assert "allowed: " in problem


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("PORT", "65536"),
        ("PORT", "8_080"),
        ("PORT", "\u0668\u0660"),
        ("QUEUE_LIMIT", "1.5"),
        ("DRAIN_SECONDS", "inf"),
        ("KEEPALIVE_SECONDS", "0"),
        ("DEVICE", "tpu"),
        ("LOG_LEVEL", "loud"),
        ("MAX_BODY_BYTES", "1"),
        ("METRICS_PORT", "8080"),
    ],
)
def test_values_out_of_bounds_are_refused(variable, text):
    with pytest.raises(ConfigError, match=variable):
        load_config({variable: text})


@pytest.mark.parametrize("text", ["true", "TRUE", "True", "1", "yes", "Yes"])
def test_words_for_true(text):
    assert load_config({"ENABLE_CPU_OFFLOAD": text}).enable_cpu_offload is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "No"])
def test_words_for_false(text):
    assert load_config({"ENABLE_CPU_OFFLOAD": text}).enable_cpu_offload is False


def test_an_empty_value_counts_as_absent():
    assert load_config({"PORT": "", "DTYPE": " "}).port == 8080


def test_the_readme_shows_the_table_that_help_prints():
    readme = Path(__file__).parent.parent / "README.md"
    assert settings_table() in readme.read_text()


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 4),
        ("0::/pod/box\n", {"pod/cpu.max": "300000 100000\n", "cpu.max": "max 100000\n"}, 3),
        ("0::/not/mounted/here\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 4),
        (
            "4:cpu,cpuacct:/kubepods/pod\n1:name=systemd:/\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3,
        ),
        (
            "4:cpuacct,cpu:/\n",
            {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
            4,
        ),
        ("", {}, 4),
    ],
)
def test_threads_follow_the_containers_cpu_limit(
    tmp_path, monkeypatch, membership, files, expected
):
    monkeypatch.setattr("diffusers_runtime.cpu_limit._cores", lambda: 4)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(text)
    (tmp_path / "cgroup").write_text(membership)
    assert usable_cpus(tmp_path / "fs", tmp_path / "cgroup") == expected


def test_without_cgroups_the_cores_count(tmp_path):
    assert usable_cpus(tmp_path / "none", tmp_path / "none") >= 1
