"""From video files and TFRecords to batches: video, dataset, sampling, augment, transform, pipeline."""
