"""Stock Keras over two workers, for test_workers.py: a model with a train_step of its own, without kzoo's care."""

import keras
import numpy as np
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()


class Stock(keras.Sequential):
    def train_step(self, data):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(data, training=True) ** 2) / 2
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        return {"loss": loss}


with strategy.scope():
    model = Stock([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd")
model.fit(np.ones((8, 3), "float32"), batch_size=4, verbose=0)
