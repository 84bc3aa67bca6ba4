"""Two logical devices, for tests of replicas; TensorFlow lets them be made before anything has used it."""

from kzoo.distribute import devices

devices.split_cpu(2)
