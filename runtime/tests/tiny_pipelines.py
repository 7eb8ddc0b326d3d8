"""Tiny text-to-image pipelines with random weights, in the folder format of diffusers.

They are the real pipeline classes with few and narrow layers: a step at 64x64 takes some 10 ms on
one core, and what they draw is noise that depends on prompt, seed, size and steps. Made on the
spot, nothing is downloaded.

    python tiny_pipelines.py OUT_DIR sd|sdxl|flux     writes OUT_DIR/sd and so on
"""

import argparse
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

WIDTH = 32
TRAINED_STEPS = 150  # below the API's 200, so that the scheduler's own cap shows


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-level tokenizer without merges: one token per byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = letters + [letter + "</w>" for letter in letters]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77
    )


def clip_text_encoder(tokenizer: CLIPTokenizer, projected: bool = False) -> torch.nn.Module:
    """A two-layer CLIP text encoder for the tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        projection_dim=WIDTH,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def vae() -> AutoencoderKL:
    """An autoencoder that shrinks by 8 in each direction, as Stable Diffusion's does."""
    return AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        sample_size=64,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def unet(**differences: object) -> UNet2DConditionModel:
    """A two-level denoiser of 8x8 latents."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **differences,
    )


def sd() -> StableDiffusionPipeline:
    """Stable Diffusion class, with the scheduler whose offset makes its last step fail."""
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=clip_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=unet(attention_head_dim=4, cross_attention_dim=WIDTH),
        scheduler=DDIMScheduler(
            num_train_timesteps=TRAINED_STEPS,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> StableDiffusionXLPipeline:
    """SDXL class: two text encoders, size conditioning."""
    first, second = clip_tokenizer(), clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=clip_text_encoder(first),
        text_encoder_2=clip_text_encoder(second, projected=True),
        tokenizer=first,
        tokenizer_2=second,
        unet=unet(
            attention_head_dim=(2, 4),
            cross_attention_dim=2 * WIDTH,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=(1, 1),
            projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )


def flux() -> FluxPipeline:
    """Flux class: a transformer on packed latents, which ignores negative prompts."""
    tokenizer = clip_tokenizer()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", *letters])}
    bytes_to_tokens = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    bytes_to_tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_to_tokens.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(4, 4, 4, 4),
            layers_per_block=1,
            norm_num_groups=1,
            latent_channels=1,
            sample_size=64,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.06,
            scaling_factor=1.5,
        ),
        text_encoder=clip_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=len(vocabulary),
                d_model=WIDTH,
                d_ff=WIDTH,
                d_kv=8,
                num_layers=1,
                num_heads=4,
                decoder_start_token_id=0,
            )
        ).eval(),
        tokenizer_2=PreTrainedTokenizerFast(
            tokenizer_object=bytes_to_tokens,
            pad_token="<pad>",
            eos_token="</s>",
            unk_token="<unk>",
            model_max_length=64,
        ),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            pooled_projection_dim=WIDTH,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=False,
        ),
    )


KINDS = {"sd": sd, "sdxl": sdxl, "flux": flux}


def make(kind: str) -> DiffusionPipeline:
    """The pipeline of that kind, with the same weights each time."""
    torch.manual_seed(0)
    return KINDS[kind]()


def save(kind: str, folder: Path) -> Path:
    """Write a pipeline to `folder`/`kind` and return that path."""
    target = Path(folder) / kind
    make(kind).save_pretrained(target)
    return target


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a tiny random text-to-image pipeline.")
    parser.add_argument("out_dir", type=Path)
    parser.add_argument("kind", choices=KINDS)
    arguments = parser.parse_args()
    print(save(arguments.kind, arguments.out_dir))
