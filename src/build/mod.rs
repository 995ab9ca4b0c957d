//! Dockerfile front end, stages, cache.
