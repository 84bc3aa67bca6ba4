"""An export as a service: TF Serving's REST interface and the Open Inference Protocol, over HTTP.

The SavedModel is loaded by TensorFlow alone. What comes in is checked against the signatures that it declares.
"""
