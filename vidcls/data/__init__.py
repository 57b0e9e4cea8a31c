"""From video files and TFRecords to batches on the device."""
