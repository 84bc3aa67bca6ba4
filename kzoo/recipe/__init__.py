"""A recipe: the YAML file that names a dataset, a backbone, a method and the training settings. Inert text."""
