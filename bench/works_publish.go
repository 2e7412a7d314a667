package main

import "context"

func workPublish(ctx context.Context, r *rig, out *Result) error { return nil }
