// Renders a chart's templates as Helm does: Go's text/template with sprig's functions, and toYaml, Files.Get and values as
// Helm adds them (pkg/engine of Helm 3). Usage: render CHART, prints the documents.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type files string

func (f files) Get(name string) string {
	data, err := os.ReadFile(filepath.Join(string(f), name))
	if err != nil {
		return ""
	}
	return string(data)
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	chart := os.Args[1]
	functions := sprig.TxtFuncMap()
	functions["toYaml"] = func(value interface{}) string {
		data, err := yaml.Marshal(value)
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(string(data), "\n")
	}
	values := map[string]interface{}{}
	data, err := os.ReadFile(filepath.Join(chart, "values.yaml"))
	check(err)
	check(yaml.Unmarshal(data, &values))
	paths, err := filepath.Glob(filepath.Join(chart, "templates", "*.yaml"))
	check(err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		check(err)
		parsed, err := template.New(filepath.Base(path)).Funcs(functions).Option("missingkey=zero").Parse(string(text))
		check(err)
		fmt.Println("---")
		check(parsed.Execute(os.Stdout, map[string]interface{}{"Values": values, "Files": files(chart)}))
	}
}
