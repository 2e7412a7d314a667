package run

import (
	"io/fs"
	"path"
	"runtime"
	"strconv"
	"strings"
)

// maxLoops bounds the event loops of a server: beyond it the kernel, not the program, is the limit. An agent serves one
// node, whose processors are its pods'.
const (
	maxLoops     = 8
	maxNodeLoops = 4
)

// Loops gives the number of event loops: the CPU quota of the process's cgroup rounded up, or the number of processors
// where there is none, at most the given number. The Go runtime rounds small quotas up to two, which would be a loop too many.
func Loops(root fs.FS, most int) int {
	n := runtime.NumCPU()
	if quota, ok := cpuQuota(root); ok {
		n = min(n, int(quota+0.999))
	}
	return min(max(n, 1), most)
}

// cpuQuota reads the quota in processors, the smallest on the way from the process's cgroup to the root. Root is "/".
func cpuQuota(root fs.FS) (float64, bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	least, found := 0.0, false
	for _, line := range strings.Split(string(text), "\n") {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) != 3 {
			continue
		}
		read, base := quotaV1, "sys/fs/cgroup/cpu"
		switch {
		case parts[0] == "0" && parts[1] == "":
			read, base = quotaV2, "sys/fs/cgroup"
		case !hasWord(parts[1], "cpu"):
			continue
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if q, ok := read(root, path.Join(base, dir)); ok && (!found || q < least) {
				least, found = q, true
			}
			if dir == "/" {
				break
			}
		}
	}
	return least, found
}

func hasWord(list, word string) bool {
	for _, w := range strings.Split(list, ",") {
		if w == word {
			return true
		}
	}
	return false
}

// quotaV2 reads cpu.max: "QUOTA PERIOD" in microseconds, QUOTA "max" for none.
func quotaV2(root fs.FS, dir string) (float64, bool) {
	text, err := fs.ReadFile(root, path.Join(dir, "cpu.max"))
	f := strings.Fields(string(text))
	if err != nil || len(f) != 2 {
		return 0, false
	}
	return ratio(f[0], f[1])
}

// quotaV1 reads cpu.cfs_quota_us and cpu.cfs_period_us; a quota of -1 is none.
func quotaV1(root fs.FS, dir string) (float64, bool) {
	quota, err1 := fs.ReadFile(root, path.Join(dir, "cpu.cfs_quota_us"))
	period, err2 := fs.ReadFile(root, path.Join(dir, "cpu.cfs_period_us"))
	if err1 != nil || err2 != nil {
		return 0, false
	}
	return ratio(strings.TrimSpace(string(quota)), strings.TrimSpace(string(period)))
}

func ratio(quota, period string) (float64, bool) {
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(period, 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return 0, false
	}
	return q / p, true
}
