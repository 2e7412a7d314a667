package run

import (
	"runtime"
	"testing"
	"testing/fstest"
)

func TestCPUQuota(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	for what, c := range map[string]struct {
		root fstest.MapFS
		want float64 // 0: none
	}{
		"no proc":            {fstest.MapFS{}, 0},
		"v2 in a container":  {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/cpu.max": file("150000 100000\n")}, 1.5},
		"v2 without a quota": {fstest.MapFS{"proc/self/cgroup": file("0::/\n"), "sys/fs/cgroup/cpu.max": file("max 100000\n")}, 0},
		"v2, the smallest on the way": {fstest.MapFS{
			"proc/self/cgroup":                       file("0::/kubepods/pod1/c1\n"),
			"sys/fs/cgroup/kubepods/pod1/c1/cpu.max": file("max 100000\n"),
			"sys/fs/cgroup/kubepods/pod1/cpu.max":    file("50000 100000\n"),
			"sys/fs/cgroup/kubepods/cpu.max":         file("400000 100000\n"),
		}, 0.5},
		"v1": {fstest.MapFS{
			"proc/self/cgroup": file("5:cpuset:/x\n3:cpu,cpuacct:/docker/abc\n0::/other\n"),
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us":  file("250000\n"),
			"sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": file("100000\n"),
		}, 2.5},
		"v1 seen from inside": {fstest.MapFS{
			"proc/self/cgroup":                    file("3:cpu,cpuacct:/docker/abc\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":  file("20000\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_period_us": file("100000\n"),
		}, 0.2},
		"v1 without a quota": {fstest.MapFS{
			"proc/self/cgroup":                    file("3:cpu:/\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_quota_us":  file("-1\n"),
			"sys/fs/cgroup/cpu/cpu.cfs_period_us": file("100000\n"),
		}, 0},
		"nonsense": {fstest.MapFS{"proc/self/cgroup": file("x\n0::\n:::\n"), "sys/fs/cgroup/cpu.max": file("a b c\n")}, 0},
	} {
		got, ok := cpuQuota(c.root)
		if ok != (c.want != 0) || got != c.want {
			t.Errorf("%s: %v %v, want %v", what, got, ok, c.want)
		}
		loops := runtime.NumCPU()
		if c.want != 0 {
			loops = min(loops, int(c.want+0.999))
		}
		if n := Loops(c.root, 8); n != min(max(loops, 1), 8) {
			t.Errorf("%s: %d loops", what, n)
		}
		if n := Loops(c.root, 1); n != 1 {
			t.Errorf("%s: %d loops of at most one", what, n)
		}
	}
}
