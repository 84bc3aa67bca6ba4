import keras

from kzoo.layers import BatchNormalization


def burrow(input_shape, options):
    inputs = x = keras.Input(input_shape, name="image")
    maps = []
    for stage in range(2):
        x = keras.layers.Conv2D(options.width * 2**stage, 3, strides=2, padding="same", name=f"conv_{stage}")(x)
        x = keras.layers.ReLU(name=f"relu_{stage}")(BatchNormalization(name=f"norm_{stage}")(x))
        maps.append(x)
    embedding = keras.layers.GlobalAveragePooling2D(name="embedding")(x)
    return keras.Model(inputs, {"embedding": embedding, "map": x, "map_1": maps[0]}, name="burrow")
