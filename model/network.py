"""The networks: text encoder, denoiser and decoder, all of diffusers' and transformers' own classes."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from words import POSITIONS

TEXT_WIDTH = 128
DECODER_WIDTHS = (16, 32, 64, 96)


def make_text_encoder(tokenizer: CLIPTokenizer, width: int = TEXT_WIDTH) -> CLIPTextModel:
    """Two layers of CLIP's text model; trained with the denoiser, from nothing."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=3 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=POSITIONS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def make_denoiser(channels: int, widths: tuple[int, int], text_width: int = TEXT_WIDTH) -> UNet2DConditionModel:
    """Reads the words twice: by attention where it draws, and pooled, beside the time, in every block."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=tuple(max(1, width // 32) for width in widths),
        cross_attention_dim=text_width,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        encoder_hid_dim=text_width,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )


def make_autoencoder(channels: int, widths: tuple[int, ...] = DECODER_WIDTHS) -> AutoencoderKL:
    """Only its decoder is ever trained: latents come from latents.py."""
    return AutoencoderKL(
        block_out_channels=widths,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=channels,
        sample_size=64,
        mid_block_add_attention=False,
        scaling_factor=1.0,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def make_scheduler() -> DDIMScheduler:
    """Predicts v; the last step is pure noise, so that dark and bright pictures come out as they should."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def save_pipeline(folder: Path, *, tokenizer, text_encoder, denoiser, autoencoder) -> None:
    """Writes a folder that `DiffusionPipeline.from_pretrained` loads."""
    StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=denoiser,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def pick_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
