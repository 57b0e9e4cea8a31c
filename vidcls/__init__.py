"""Video action classification in JAX: TSN, ECO and TimeSformer, from raw videos to predictions."""
