"""What bench_codec.py is made of: weights, contenders (ours and peers), timing, the sweep over sizes, the whole model."""
