"""kzoo: the self-supervised model zoo for Keras 3, where every method and every backbone is a plugin."""
