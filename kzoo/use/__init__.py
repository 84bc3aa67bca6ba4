"""What a trained backbone is for: embeddings of files, their neighbours, runs beside each other, fine-tuning."""
