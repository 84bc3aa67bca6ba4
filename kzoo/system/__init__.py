"""The machine: its terminal, disk, signals and fonts, and the private names of Keras and TensorFlow."""
