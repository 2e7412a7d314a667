package netns

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// long makes the tests those of `make soak`: more upgrades, and times are asserted too.
var long = flag.Bool("long", false, "many upgrades, and assert times against a control run")

// rounds is how often something is done: the short form's number, or the long one's.
func rounds(short, soak int) int {
	if *long {
		return soak
	}
	return short
}

func TestMain(m *testing.M) {
	if role := os.Getenv(strangerRole); role != "" { // this process is one of TestStranger's
		os.Exit(stranger(role, os.Args[1:]))
	}
	os.Exit(testMain(m))
}

// testMain builds the program once for all labs, unless it is given.
func testMain(m *testing.M) int {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // those that are parallel mostly wait
		panic(err)
	}
	if os.Getenv(binaryVariable) != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "netns")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "godwit")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/godwit-dns/godwit/cmd/godwit")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	os.Setenv(binaryVariable, binary)
	return m.Run()
}

// slack is what the short form forgives of a promised time, on machines with other work. The load has to go on for longer.
func slack() time.Duration {
	if *long {
		return 0
	}
	return time.Second
}
