package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the machine that was measured on.
type Host struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Memory uint64 `json:"memory_mib"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	System string `json:"system"`
}

func thisHost() Host {
	h := Host{CPU: fileWord("/proc/cpuinfo", "model name"), Cores: onlineCores(), Go: runtime.Version(),
		System: strings.Trim(fileWord("/etc/os-release", "PRETTY_NAME"), `"`)}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		h.Kernel = string(bytes.TrimRight(u.Release[:], "\x00"))
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		h.Memory = s.Totalram * uint64(s.Unit) >> 20
	}
	return h
}

// onlineCores counts the machine's cores, not those this process may use.
func onlineCores() int {
	list, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*")
	return len(list)
}

// fileWord gives what follows "key : " or "key=" in the first line of a file that begins with key.
func fileWord(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, " \t:="))
		}
	}
	return ""
}

// coreTime is what one core did since the machine's start.
type coreTime struct {
	busy, steal, total time.Duration
	ksoftirqd          time.Duration
}

// readCore reads /proc/stat for a core, and its ksoftirqd's time.
func readCore(core string) (c coreTime) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 9 || f[0] != "cpu"+core {
			continue
		}
		for i, v := range f[1:9] {
			d := time.Duration(number(v)) * tick
			c.total += d
			switch i {
			case 3, 4: // idle, iowait
			case 7:
				c.steal += d
			default:
				c.busy += d
			}
		}
	}
	c.ksoftirqd = softirqThread(core)
	return c
}

// softirqThread gives the CPU time of ksoftirqd of a core: work of the network that nobody is billed for.
func softirqThread(core string) time.Duration {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		name, err := os.ReadFile(dir + "/comm")
		if err != nil || strings.TrimSpace(string(name)) != "ksoftirqd/"+core {
			continue
		}
		if f, err := statFields(dir); err == nil {
			return time.Duration(number(f[11])+number(f[12])) * tick
		}
	}
	return 0
}
