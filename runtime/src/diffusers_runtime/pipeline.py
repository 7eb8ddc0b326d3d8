"""The diffusers pipeline: load it as configured, make pictures with it.

Importing this module imports torch and takes seconds. The worker thread does it, so that the
server answers liveness probes meanwhile.
"""

import gc
import inspect
import io
import json
import logging
import math
import struct
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from .config import Config
from .errors import DeviceLost, LoadError, OutOfMemory
from .instances import MAX_STEPS, Instance, Limits
from .logs import quiet_model_libraries

log = logging.getLogger(__name__)

OnStep = Callable[[int, int, int], None]
"""Called after each step with (index of the instance, steps done, steps in all). May raise."""


@dataclass(frozen=True)
class Picture:
    """One finished picture. `width` and `height` are those of the PNG."""

    png: bytes
    width: int
    height: int
    inference_ms: int


class TextToImage:
    """A loaded pipeline. Not thread-safe: a pipeline used by two threads gives wrong pictures."""

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self.pipe = pipe
        self.limits = _limits(pipe)

    def generate(self, instances: list[Instance], on_step: OnStep) -> list[Picture]:
        """Make one picture per instance, in order. The same instance gives the same bytes.

        Raises what `on_step` raises, after which the pipeline is ready for the next call;
        OutOfMemory; DeviceLost; and whatever else the pipeline raises.
        """
        try:
            return [
                self._generate_one(index, instance, on_step)
                for index, instance in enumerate(instances)
            ]
        except Exception as error:
            if _is_lost(error):
                raise DeviceLost(str(error)) from error
            # The frames of the traceback hold the tensors that recovery is to free.
            traceback.clear_frames(error.__traceback__)
            self._recover()
            if _is_out_of_memory(error):
                raise OutOfMemory(str(error)) from None
            raise

    def _generate_one(self, index: int, instance: Instance, on_step: OnStep) -> Picture:
        def after_step(pipe: DiffusionPipeline, step: int, _timestep: object, state: dict) -> dict:
            # Schedulers of second order take more steps than were asked for.
            steps = getattr(pipe, "num_timesteps", None) or instance.num_inference_steps
            on_step(index, step + 1, steps)
            return state

        arguments = {
            "prompt": instance.prompt,
            "negative_prompt": instance.negative_prompt,
            "width": instance.width,
            "height": instance.height,
            "num_inference_steps": instance.num_inference_steps,
            "guidance_scale": instance.guidance_scale,
        }
        started = time.perf_counter()
        output = self.pipe(
            **{name: value for name, value in arguments.items() if value is not None},
            # On the CPU whatever the device: a seed then means the same noise on all of them.
            generator=torch.Generator("cpu").manual_seed(instance.seed),
            callback_on_step_end=after_step,
        )
        inference_ms = round((time.perf_counter() - started) * 1000)
        image = output.images[0]
        if image.size != (instance.width, instance.height):
            raise RuntimeError(
                f"asked for {instance.width}x{instance.height}, the pipeline made {image.size}"
            )
        png = io.BytesIO()
        image.save(png, format="PNG")
        return Picture(png.getvalue(), image.width, image.height, inference_ms)

    def _recover(self) -> None:
        # A call that ends early skips the pipeline's own clean-up: with offloading, the part
        # that was computing would stay in GPU memory.
        self.pipe.maybe_free_model_hooks()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def load(config: Config) -> TextToImage:
    """Load the pipeline onto its device and warm it up with one step at its own default size.

    Raises LoadError with advice for whatever a person can mend; other errors come from the
    libraries as they are.
    """
    quiet_model_libraries(config.log_level)
    torch.set_num_threads(config.torch_threads)
    torch.backends.cudnn.deterministic = True  # same seed, same bytes
    device = _device(config.device)
    folder = _folder(config.model_id)
    dtype = _dtype(config.dtype, device, folder)
    log.info(
        "loading the model",
        extra={
            "fields": {
                "model_id": config.model_id,
                "device": device,
                "dtype": str(dtype).removeprefix("torch."),
                "torch_threads": config.torch_threads,
            }
        },
    )
    pipe = DiffusionPipeline.from_pretrained(
        folder, dtype=dtype, low_cpu_mem_usage=config.enable_low_cpu_mem
    )
    _require_text_to_image(pipe)
    pipe.set_progress_bar_config(disable=True)
    if config.enable_attention_slicing:
        pipe.enable_attention_slicing()
    if config.enable_vae_slicing and hasattr(pipe.vae, "enable_slicing"):
        pipe.vae.enable_slicing()
    if config.enable_cpu_offload and device == "cuda":
        # Instead of .to(): offloading moves each part by itself, and a pipeline that is on the
        # GPU already would keep all of it there.
        pipe.enable_model_cpu_offload(device=device)
    else:
        pipe.to(device)
    return TextToImage(pipe)


def _device(wanted: str) -> str:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name, there in available.items() if there)
    if not available[wanted]:
        names = ", ".join(name for name, there in available.items() if there)
        raise LoadError(
            f"DEVICE={wanted}, but torch {torch.__version__} finds no such device here "
            f"(it finds: {names}). Set DEVICE=auto, or give the container the device and a torch "
            "built for it."
        )
    return wanted


def _folder(model_id: str) -> str:
    path = Path(model_id).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise LoadError(
                f"MODEL_ID={model_id} is a folder without model_index.json, so it holds no "
                "diffusers pipeline. Point MODEL_ID at the folder that has this file, or save the "
                "model there with save_pretrained()."
            )
        return str(path)
    if path.is_absolute() or model_id.startswith((".", "~")) or model_id.count("/") != 1:
        raise LoadError(
            f"MODEL_ID={model_id}: there is no such folder. Mount the model there, or set MODEL_ID "
            "to another folder or to a hub id such as owner/name."
        )
    try:
        return str(DiffusionPipeline.download(model_id))
    except Exception as error:
        raise LoadError(
            f"MODEL_ID={model_id} could not be fetched from the model hub: {error}. Check the "
            "name, the network, HF_TOKEN for a gated model, and HF_HUB_OFFLINE; or mount the "
            "model as a folder and set MODEL_ID to it."
        ) from error


def _dtype(wanted: str, device: str, folder: str) -> torch.dtype:
    if wanted not in ("auto", "native"):
        return getattr(torch, wanted)
    if wanted == "auto" and device == "mps":
        return torch.float32
    if wanted == "auto" and device == "cuda":
        if torch.cuda.is_bf16_supported() and torch.cuda.get_device_capability() >= (8, 0):
            return torch.bfloat16
        stored = _stored_dtype(Path(folder))
        return torch.float16 if stored == torch.float32 else stored
    return _stored_dtype(Path(folder))


def _stored_dtype(folder: Path) -> torch.dtype:
    """The type of the denoiser's weights on disk; float32 when they are not safetensors."""
    names = {"F16": torch.float16, "BF16": torch.bfloat16}
    for denoiser in ("unet", "transformer"):
        # Unnamed variants only, as these are what from_pretrained() takes.
        files = [
            *folder.glob(f"{denoiser}/diffusion_pytorch_model.safetensors"),
            *sorted(folder.glob(f"{denoiser}/diffusion_pytorch_model-0*.safetensors")),
        ]
        for file in files[:1]:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            return names.get(next(iter(header.values()))["dtype"], torch.float32)
    return torch.float32


def _require_text_to_image(pipe: DiffusionPipeline) -> None:
    parameters = inspect.signature(type(pipe).__call__).parameters
    needed = ("prompt", "width", "height", "num_inference_steps", "callback_on_step_end")
    missing = [f"its call takes no {name}" for name in needed if name not in parameters]
    if not hasattr(pipe, "vae") or not hasattr(pipe, "vae_scale_factor"):
        missing.append("it has no VAE of a known scale")
    if missing:
        raise LoadError(
            f"{type(pipe).__name__} cannot be served: {', '.join(missing)}. "
            "Serve a text-to-image pipeline of the Stable Diffusion, SDXL or Flux class."
        )


def _limits(pipe: DiffusionPipeline) -> Limits:
    # The warm-up: pays for lazy initialisation now, shows that one picture fits into memory,
    # and tells the default size.
    width, height = pipe(prompt="warm-up", num_inference_steps=1).images[0].size
    parameters = inspect.signature(type(pipe).__call__).parameters
    unsupported = {n for n in ("negative_prompt", "guidance_scale") if n not in parameters}
    # Flux takes a negative prompt and ignores it unless true_cfg_scale is above its default of 1.
    scale = parameters.get("true_cfg_scale")
    if scale is not None and scale.default <= 1:
        unsupported.add("negative_prompt")
    max_steps = _max_steps(pipe.scheduler.config)
    default_steps = parameters["num_inference_steps"].default
    # Transformers take latents in patches. Flux rounds other sizes down silently, SD3 raises.
    patch = 2 if hasattr(pipe, "_pack_latents") else getattr(pipe, "patch_size", 1)
    return Limits(
        pipeline=type(pipe).__name__,
        max_steps=max_steps,
        default_steps=min(default_steps, max_steps),
        size_multiple=math.lcm(8, pipe.vae_scale_factor * patch),
        default_width=width,
        default_height=height,
        unsupported=frozenset(unsupported),
    )


def _max_steps(scheduler_config: dict) -> int:
    # Beyond these, schedulers raise: distilled ones above the steps they were distilled from,
    # DDIM with an offset when it would need a timestep after its last one.
    trained = scheduler_config.get("num_train_timesteps", MAX_STEPS)
    offset = scheduler_config.get("steps_offset", 0)
    distilled = scheduler_config.get("original_inference_steps", MAX_STEPS)
    return min(MAX_STEPS, trained - offset, distilled)


def _is_lost(error: Exception) -> bool:
    return isinstance(error, torch.AcceleratorError) and not _is_out_of_memory(error)


def _is_out_of_memory(error: Exception) -> bool:
    # On the CPU torch raises a plain RuntimeError.
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(words in str(error) for words in ("out of memory", "can't allocate memory"))
    )
