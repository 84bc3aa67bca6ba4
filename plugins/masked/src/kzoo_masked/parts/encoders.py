"""What goes downstream where tokens were trained, and no class token."""

import keras


def mean_of_tokens(backbone: keras.Model) -> keras.Model:
    """The backbone, its weights shared, with the mean of its tokens as "embedding" `[B, D]`, whatever it was."""
    tokens = backbone.output["tokens"]
    embedding = keras.layers.GlobalAveragePooling1D(name="mean_of_tokens")(tokens)
    return keras.Model(backbone.input, {"embedding": embedding, "tokens": tokens}, name=backbone.name)
