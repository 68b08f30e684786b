"""Go templates that the tests give to SmolLM2, each with one ability, in the ChatML that it speaks."""

from __future__ import annotations

from typing import Final

CHATML: Final = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""

TOOLS: Final = """{{- if or .System .Tools }}<|im_start|>system
{{ .System }}
{{- if .Tools }}

You can call functions. Their signatures:
<tools>
{{- range .Tools }}
{{ . }}
{{- end }}
</tools>
A call is JSON in tags: <tool_call>{"name": ..., "arguments": {...}}</tool_call>
{{- end }}<|im_end|>
{{ end }}
{{- range .Messages }}
{{- if eq .Role "tool" }}<|im_start|>user
<tool_response>
{{ .Content }}
</tool_response><|im_end|>
{{ else if ne .Role "system" }}<|im_start|>{{ .Role }}
{{ .Content }}
{{- range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>
{{- end }}<|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant
"""

THINKING: Final = """{{- range .Messages }}<|im_start|>{{ .Role }}
{{- if .Thinking }}
<think>
{{ .Thinking }}
</think>
{{- end }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
{{ if $.Think }}<think>
{{ end }}"""

INSERT: Final = """{{ if .Suffix }}<fim_prefix>{{ .Prompt }}<fim_suffix>{{ .Suffix }}<fim_middle>
{{- else }}<|im_start|>user
{{ .Prompt }}<|im_end|>
<|im_start|>assistant
{{ end }}{{ .Response }}"""
