"""What `Method` stands on: the Keras model, the optimizer's step, the means of an epoch."""
