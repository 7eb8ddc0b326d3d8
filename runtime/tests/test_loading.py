"""Loading: what is loaded, in which type, onto which device, and what is said when it cannot be."""

import pytest
import torch
from harness import config_for

from diffusers_runtime import pipeline
from diffusers_runtime.errors import LoadError


@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        ("/not/mounted", "there is no such folder. Mount the model there"),
        ("./not/here", "there is no such folder"),
        ("noslash", "there is no such folder"),
        ("a/b/c", "there is no such folder"),
        ("some-owner/some-name", "could not be fetched from the model hub"),
    ],
)
def test_a_model_that_is_not_there_is_explained(model_id, message):
    with pytest.raises(LoadError) as caught:
        pipeline.load(config_for(model_id))
    assert f"MODEL_ID={model_id}" in str(caught.value)
    assert message in str(caught.value)


def test_a_folder_that_holds_no_pipeline_is_explained(tmp_path):
    with pytest.raises(LoadError, match=r"without model_index\.json"):
        pipeline.load(config_for(tmp_path))


def test_a_device_that_is_not_there_is_explained(folders, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LoadError, match=r"DEVICE=cuda, but torch .* finds no such device"):
        pipeline.load(config_for(folders("sd"), device="cuda"))


@pytest.mark.parametrize("wanted", ["auto", "native"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
def test_on_the_cpu_weights_keep_the_type_they_are_stored_in(folders, tmp_path, wanted, stored):
    original = pipeline.load(config_for(folders("sd"))).pipe
    original.to(stored).save_pretrained(tmp_path)
    loaded = pipeline.load(config_for(tmp_path, dtype=wanted))
    assert loaded.pipe.unet.dtype == stored


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_type_that_is_asked_for_is_used(folders, wanted):
    loaded = pipeline.load(config_for(folders("sd"), dtype=wanted))
    assert loaded.pipe.unet.dtype == getattr(torch, wanted)


@pytest.mark.parametrize(
    ("capability", "bf16", "stored", "expected"),
    [
        ((9, 0), True, torch.float32, torch.bfloat16),
        ((8, 0), True, torch.float16, torch.bfloat16),
        # Emulated: slower than float16.
        ((7, 5), True, torch.float32, torch.float16),
        ((7, 5), False, torch.float16, torch.float16),
        ((7, 5), False, torch.bfloat16, torch.bfloat16),
    ],
)
def test_the_automatic_type_on_cuda(monkeypatch, capability, bf16, stored, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(pipeline, "_stored_dtype", lambda folder: stored)
    assert pipeline._dtype("auto", "cuda", "/models") == expected


def test_the_automatic_type_on_mps():
    assert pipeline._dtype("auto", "mps", "/models") == torch.float32


@pytest.mark.parametrize(
    ("device", "offload", "expected"),
    [
        ("cuda", True, ["offload cuda"]),
        ("cuda", False, ["to cuda"]),
        ("mps", True, ["to mps"]),
        ("cpu", True, ["to cpu"]),
    ],
)
def test_offloading_takes_the_place_of_moving_and_only_on_cuda(
    folders, monkeypatch, device, offload, expected
):
    from diffusers import DiffusionPipeline

    moves = []
    monkeypatch.setattr(pipeline, "_device", lambda wanted: device)
    monkeypatch.setattr(pipeline, "_dtype", lambda *_: torch.float32)
    monkeypatch.setattr(DiffusionPipeline, "to", lambda self, to: moves.append(f"to {to}"))
    monkeypatch.setattr(
        DiffusionPipeline,
        "enable_model_cpu_offload",
        lambda self, device: moves.append(f"offload {device}"),
    )
    pipeline.load(config_for(folders("sd"), enable_cpu_offload=offload))
    assert moves == expected


@pytest.mark.parametrize("on", [True, False])
def test_slicing_is_as_configured(folders, on):
    config = config_for(folders("sd"), enable_attention_slicing=on, enable_vae_slicing=on)
    pipe = pipeline.load(config).pipe
    assert pipe.vae.use_slicing is on
    sliced = [type(p).__name__.startswith("Sliced") for p in pipe.unet.attn_processors.values()]
    assert all(sliced) if on else not any(sliced)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ({"num_train_timesteps": 1000}, 200),
        ({"num_train_timesteps": 1000, "steps_offset": 1}, 200),
        ({"num_train_timesteps": 100, "steps_offset": 1}, 99),
        ({"num_train_timesteps": 1000, "original_inference_steps": 50}, 50),
        ({}, 200),
    ],
)
def test_steps_are_capped_by_the_scheduler(scheduler, expected):
    assert pipeline._max_steps(scheduler) == expected


def test_a_pipeline_without_a_step_callback_is_refused():
    class AudioPipeline:
        vae = None

        def __call__(self, prompt, width, height, num_inference_steps):
            raise NotImplementedError

    with pytest.raises(LoadError, match=r"AudioPipeline .* takes no callback_on_step_end"):
        pipeline._require_text_to_image(AudioPipeline())
