// Asks docs/manifests/node-restriction.yaml about patches, by the code with which an API server evaluates such a policy:
// what an agent writes is admitted, whatever else its service account could write is denied. Run by scripts/check-admission.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	celgo "cel.dev/cel-go/cel"
	admissionregistration "k8s.io/api/admissionregistration/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	limits "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/cel/environment"
	"sigs.k8s.io/yaml"
)

const (
	agent = "system:serviceaccount:kube-system:vm-node-agent"
	// Source: Kubernetes, "Managing Service Accounts", claims of bound tokens.
	nodeClaim = "authentication.kubernetes.io/node-name"

	pod = `{"metadata":{"name":"web-0","namespace":"default","uid":"u1","resourceVersion":"7","generation":1,
"creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"web"},"annotations":{"vmshim.io/power-request":"{}","x":"y"},
"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"r","uid":"u0"}],"managedFields":[{"manager":"a"}]},
"spec":{"nodeName":"node-1","runtimeClassName":"vm","containers":[{"name":"vm","image":"i"}]},
"status":{"phase":"Running","podIP":"10.0.0.9","podIPs":[{"ip":"10.0.0.9"}],
"conditions":[{"type":"Initialized","status":"True"},{"type":"Ready","status":"True"}],
"containerStatuses":[{"name":"vm","ready":true,"restartCount":0,"image":"i","imageID":""}]}}`
	bare      = `{"metadata":{"name":"web-0","namespace":"default","uid":"u1"},"spec":{"nodeName":"node-1"}}`
	unbound   = `{"metadata":{"name":"web-0","namespace":"default","uid":"u1"},"spec":{}}`
	answer    = `{"metadata":{"uid":"u1","resourceVersion":"7","annotations":{"vmshim.io/power-status":"{}"}}}`
	condition = `{"metadata":{"uid":"u1"},"status":{"conditions":[{"type":"vmshim.io/PoweredOn","status":"True","reason":"PoweredOn"}]}}`
)

// A patch that somebody sends, of the agent on node-1 and of `pod` where nothing else is said.
type question struct {
	what, part, patch string
	pod, user         string
	nodes             []string
	create            bool
	// Part of the sentence that refuses it; empty for what is admitted.
	refusal string
}

const (
	otherNode  = "of that node only"
	spec       = "no pod's spec"
	metadata   = "labels, owners"
	annotation = "no annotation but"
	conditions = "no condition but"
	status     = "nothing of a pod's status"
	existing   = "pods that exist"
)

var questions = []question{
	{what: "the answer to a request", patch: answer},
	{what: "an answer in the place of an earlier one", patch: answer,
		pod: strings.Replace(pod, `"x":"y"`, `"vmshim.io/power-status":"old"`, 1)},
	{what: "the first annotation of a pod", patch: answer, pod: bare},
	{what: "the condition", part: "status", patch: condition},
	{what: "the condition, changed", part: "status", patch: strings.Replace(condition, "True", "False", 1),
		pod: strings.Replace(pod, `{"type":"Ready"`, `{"type":"vmshim.io/PoweredOn","status":"True"},{"type":"Ready"`, 1)},
	{what: "the first condition of a pod", part: "status", patch: condition, pod: bare},
	{what: "an answer in a large pod", patch: answer, pod: large()},
	{what: "the condition of a large pod", part: "status", patch: condition, pod: large()},
	{what: "with what the server itself changes", patch: `{"metadata":{"managedFields":[{"manager":"b"}]}}`},
	{what: "another user", patch: `{"metadata":{"labels":{"app":"b"}}}`, user: "system:node:node-2"},

	{what: "an answer from another node", patch: answer, nodes: []string{"node-2"}, refusal: otherNode},
	{what: "the condition from another node", part: "status", patch: condition, nodes: []string{"node-2"}, refusal: otherNode},
	{what: "a token of no node", patch: answer, nodes: []string{}, refusal: otherNode},
	{what: "a token of two nodes", patch: answer, nodes: []string{"node-1", "node-2"}, refusal: otherNode},
	{what: "a pod of no node", patch: answer, pod: unbound, refusal: otherNode},
	{what: "an image", patch: `{"spec":{"containers":[{"name":"vm","image":"b"}]}}`, refusal: spec},
	{what: "a deadline", patch: `{"spec":{"activeDeadlineSeconds":1}}`, refusal: spec},
	{what: "a label", patch: `{"metadata":{"labels":{"app":"b"}}}`, refusal: metadata},
	{what: "a label by the status", part: "status", patch: `{"metadata":{"labels":{"app":"b"}}}`, refusal: metadata},
	{what: "a pod's first label", patch: `{"metadata":{"labels":{"app":"b"}}}`, pod: bare, refusal: metadata},
	{what: "no labels", patch: `{"metadata":{"labels":null}}`, refusal: metadata},
	{what: "a finalizer", patch: `{"metadata":{"finalizers":["a.b/c"]}}`, refusal: metadata},
	{what: "an owner", patch: `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node","name":"n","uid":"x"}]}}`, refusal: metadata},
	{what: "a deletion", patch: `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}`, refusal: metadata},
	{what: "a power request", patch: `{"metadata":{"annotations":{"vmshim.io/power-request":"b"}}}`, refusal: annotation},
	{what: "another annotation", patch: `{"metadata":{"annotations":{"z":"1"}}}`, refusal: annotation},
	{what: "an annotation less", patch: `{"metadata":{"annotations":{"x":null}}}`, refusal: annotation},
	{what: "no annotations", patch: `{"metadata":{"annotations":null}}`, refusal: annotation},
	{what: "an answer by the status", part: "status", patch: answer, refusal: annotation},
	{what: "readiness", part: "status", patch: `{"status":{"conditions":[{"type":"Ready","status":"False"}]}}`, refusal: conditions},
	{what: "another condition", part: "status", patch: `{"status":{"conditions":[{"type":"DisruptionTarget","status":"True"}]}}`, refusal: conditions},
	{what: "a condition less", part: "status", patch: `{"status":{"conditions":[{"$patch":"delete","type":"Ready"}]}}`, refusal: conditions},
	{what: "no conditions", part: "status", patch: `{"status":{"conditions":null}}`, refusal: conditions},
	{what: "the condition by the pod", patch: condition, refusal: conditions},
	{what: "an address", part: "status", patch: `{"status":{"podIP":"10.0.0.1"}}`, refusal: status},
	{what: "a phase", part: "status", patch: `{"status":{"phase":"Failed"}}`, refusal: status},
	{what: "a node it is nominated for", part: "status", patch: `{"status":{"nominatedNodeName":"n"}}`, refusal: status},
	{what: "a container's state", part: "status", patch: `{"status":{"containerStatuses":[{"name":"vm","ready":false}]}}`, refusal: status},
	{what: "no status", part: "status", patch: `{"status":null}`, refusal: status},
	{what: "ephemeral containers", part: "ephemeralcontainers", patch: `{}`, refusal: existing},
	{what: "other resources", part: "resize", patch: `{}`, refusal: existing},
	{what: "a new pod", create: true, patch: `{}`, refusal: existing},
	{what: "a process in a pod", part: "exec", create: true, patch: `{}`, refusal: existing},
}

// A pod near the size that an API server takes: the expressions have a budget.
func large() string {
	var it core.Pod
	must(json.Unmarshal([]byte(pod), &it))
	for i := range 40 {
		name := strings.Repeat("c", i+1)
		container := core.Container{Name: name, Image: "registry.example/i:1"}
		for range 300 {
			container.Env = append(container.Env, core.EnvVar{Name: "NAME", Value: strings.Repeat("v", 60)})
		}
		it.Spec.Containers = append(it.Spec.Containers, container)
		it.Annotations[name] = strings.Repeat("a", 5000)
		it.Status.ContainerStatuses = append(it.Status.ContainerStatuses, core.ContainerStatus{Name: name})
	}
	text, err := json.Marshal(it)
	must(err)
	return string(text)
}

type expression struct{ name, text string }

func (e *expression) GetExpression() string { return e.text }
func (e *expression) GetName() string       { return e.name }
func (e *expression) ReturnTypes() []*celgo.Type {
	if e.name == "" {
		return []*celgo.Type{celgo.BoolType}
	}
	return []*celgo.Type{celgo.AnyType, celgo.DynType}
}

type policy struct {
	matches, allows cel.ConditionEvaluator
	sentences       []string
	// The dearest question so far, in units of the API server's budget.
	cost int64
}

// Compiled as the API server does it when the policy is read from its store.
func load(path string) *policy {
	text, err := os.ReadFile(path)
	must(err)
	documents := strings.Split(string(text), "\n---\n")
	var said admissionregistration.ValidatingAdmissionPolicy
	must(yaml.UnmarshalStrict([]byte(documents[0]), &said))
	must(yaml.UnmarshalStrict([]byte(documents[1]), &admissionregistration.ValidatingAdmissionPolicyBinding{}))
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	must(err)
	with := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	for _, variable := range said.Spec.Variables {
		result := compiler.CompileAndStoreVariable(&expression{variable.Name, variable.Expression}, with, environment.StoredExpressions)
		if result.Error != nil {
			fail("variable %s: %v", variable.Name, result.Error)
		}
	}
	is := &policy{}
	var match, validate []cel.ExpressionAccessor
	for _, condition := range said.Spec.MatchConditions {
		match = append(match, &expression{text: condition.Expression})
	}
	for _, validation := range said.Spec.Validations {
		validate = append(validate, &expression{text: validation.Expression})
		is.sentences = append(is.sentences, validation.Message)
	}
	is.matches = compiler.CompileCondition(match, with, environment.StoredExpressions)
	is.allows = compiler.CompileCondition(validate, with, environment.StoredExpressions)
	for _, err := range slices.Concat(is.matches.CompilationErrors(), is.allows.CompilationErrors()) {
		must(err)
	}
	return is
}

// The sentences that refuse it; an expression that cannot be evaluated refuses as well (failurePolicy: Fail).
func (p *policy) ask(attributes *admission.VersionedAttributes) []string {
	resource, kind := meta.GroupVersionResource{Version: "v1", Resource: "pods"}, meta.GroupVersionKind{Version: "v1", Kind: "Pod"}
	request := cel.CreateAdmissionRequest(attributes.Attributes, resource, kind)
	evaluate := func(of cel.ConditionEvaluator, budget int64) ([]cel.EvaluationResult, int64) {
		results, left, err := of.ForInput(context.Background(), attributes, request, cel.OptionalVariableBindings{}, nil, budget)
		must(err)
		return results, budget - left
	}
	results, _ := evaluate(p.matches, limits.RuntimeCELCostBudgetMatchConditions)
	for _, result := range results {
		must(result.Error)
		if result.EvalResult.Value() != true {
			return nil
		}
	}
	results, cost := evaluate(p.allows, limits.RuntimeCELCostBudget)
	p.cost = max(p.cost, cost)
	var refusals []string
	for i, result := range results {
		if result.Error != nil {
			refusals = append(refusals, result.Error.Error())
		} else if result.EvalResult.Value() != true {
			refusals = append(refusals, p.sentences[i])
		}
	}
	return refusals
}

func (q question) attributes() *admission.VersionedAttributes {
	before, after := &core.Pod{}, &core.Pod{}
	text := q.pod
	if text == "" {
		text = pod
	}
	must(json.Unmarshal([]byte(text), before))
	whole, err := json.Marshal(before)
	must(err)
	patched, err := strategicpatch.StrategicMergePatch(whole, []byte(q.patch), core.Pod{})
	must(err)
	must(json.Unmarshal(patched, after))
	who := &user.DefaultInfo{Name: q.user, Extra: map[string][]string{nodeClaim: q.nodes}}
	switch {
	case q.user != "":
		who.Extra = nil
	case q.nodes == nil:
		who.Extra[nodeClaim] = []string{"node-1"}
	case len(q.nodes) == 0:
		who.Extra = nil
	}
	if q.user == "" {
		who.Name = agent
	}
	operation, old := admission.Update, runtime.Object(before)
	if q.create {
		operation, old = admission.Create, nil
	}
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	record := admission.NewAttributesRecord(after, old, kind, "default", "web-0", resource, q.part, operation, nil, false, who)
	return &admission.VersionedAttributes{Attributes: record, VersionedObject: after, VersionedOldObject: old, VersionedKind: kind}
}

func main() {
	asked := load(os.Args[1])
	wrong := 0
	for _, question := range questions {
		refusals := asked.ask(question.attributes())
		expected := len(refusals) == 0
		if question.refusal != "" {
			expected = slices.ContainsFunc(refusals, func(said string) bool { return strings.Contains(said, question.refusal) })
		}
		verdict, said := "ok", "admitted"
		if len(refusals) > 0 {
			said = refusals[0]
		}
		if !expected {
			verdict = "not ok"
			wrong++
		}
		fmt.Printf("%s %s: %s\n", verdict, question.what, said)
	}
	fmt.Printf("%d questions, %d answered wrong; the dearest took %d of %d\n", len(questions), wrong, asked.cost, limits.RuntimeCELCostBudget)
	if wrong > 0 {
		os.Exit(1)
	}
}

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func fail(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}
