//! What the frames of the firehose look like, to the byte.
