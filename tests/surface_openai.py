"""OpenAI's API row by row; see ``surface`` for how to read it."""

from __future__ import annotations

from typing import Final

__all__ = ["OPENAI"]

_OPTIONS = "read::test_fields_become_options"
_NAMED = "read::test_a_field_that_cannot_be_is_named"
_MESSAGE = "read::test_a_message_becomes_a_native_one"
_NATIVE_CALLS = "read::test_calls_and_their_results_find_each_other"
_OLD_CALL = "read::test_a_call_of_the_older_form_is_a_call"
_OLD_CALLED = "chat::test_functions_of_the_older_form_are_called"
_OLD_TOOLS = "read::test_functions_of_the_older_form_are_tools"
_EFFORT = "read::test_efforts_are_ways_of_thinking"
_FORM = "read::test_a_response_format_is_a_format chat::test_an_answer_keeps_to_a_schema"
_ANSWER = "chat::test_an_answer_is_the_native_one_in_openais_shape"
_STREAM = "chat::test_a_stream_is_the_answer_in_pieces"
_USAGE = "chat::test_the_usage_comes_at_the_end_of_a_stream_where_it_is_wanted"
_PROBABLE = "chat::test_probabilities_of_an_answer_are_those_of_its_tokens"
_CALL = "chat::test_a_demanded_call_comes_with_its_arguments_as_text"
_CALL_PIECE = "chat::test_a_streamed_call_comes_whole"
_FUNCTION_PIECE = "made::test_who_speaks_of_functions_is_answered_with_a_function_call"
_THOUGHT = "chat::test_thinking_is_reasoning"
_IGNORED = "chat::test_what_openai_has_and_no_model_here_changes_nothing"
_ERROR = "chat::test_an_error_before_the_answer_has_its_status_and_its_shape"
_SEVERAL = "chat::test_several_answers_have_the_next_seeds"
_IMAGE = "watched::test_answers_depend_on_the_image"

_TEXT = "completions::test_a_completion_is_the_native_answer_in_openais_shape"
_TEXTS = "completions::test_a_stream_is_the_completion_in_pieces"
_ORDER = "completions::test_each_prompt_has_its_n_answers_in_openais_order"
_OLD_PROBABLE = "completions::test_probabilities_come_in_the_older_form"
_PASSED = "read::test_a_completion_passes_on_suffix_format_and_logprobs"
_PENALTIES = "read::test_a_completion_always_says_penalties_and_takes_no_zero_for_top_p"
_REFUSED = "completions::test_what_cannot_be_had_is_refused"
_VECTORS = "openai::test_every_input_has_its_vector"
_NO_VECTOR = "openai::test_what_cannot_be_embedded_is_refused"
_MODELS = "openai::test_models_are_listed_with_their_age_and_owner"
_NO_MODEL = "openai::test_a_model_that_is_not_there_is_404"

OPENAI: Final = {
    "POST /v1/chat/completions": {
        "request": {
            "model": f"{_ANSWER} {_ERROR}",
            "messages messages.role messages.content messages.name": _MESSAGE,
            "messages.reasoning messages.refusal": _MESSAGE,
            "messages.tool_calls messages.tool_calls.id messages.tool_calls.type messages.tool_call_id": _NATIVE_CALLS,
            "messages.tool_calls.function messages.tool_calls.function.name": _NATIVE_CALLS,
            "messages.tool_calls.function.arguments": f"{_NATIVE_CALLS} read::test_what_is_no_message_is_refused",
            "messages.function_call messages.function_call.name messages.function_call.arguments": _OLD_CALL,
            "messages.content.text": "chat::test_parts_of_a_text_and_a_developer_reach_the_model"
            " client::test_a_message_of_text_parts",
            "messages.content.image_url": f"{_IMAGE} watched::test_what_is_no_image_is_refused",
            "stream": f"{_STREAM} client::test_a_stream_says_the_same_in_pieces",
            "stream_options stream_options.include_usage": _USAGE,
            "max_tokens max_completion_tokens": f"{_OPTIONS} client::test_an_answer_is_as_long_as_it_may_be",
            "n": f"{_SEVERAL} {_NAMED} client::test_several_choices",
            "seed": f"{_OPTIONS} chat::test_a_seed_makes_an_answer_come_again",
            "stop": f"{_OPTIONS} chat::test_a_stop_text_ends_the_answer",
            "temperature top_p": "read::test_temperature_and_top_p_are_one_unless_they_are_said",
            "frequency_penalty presence_penalty": _OPTIONS,
            "logit_bias": f"{_OPTIONS} chat::test_a_bias_makes_a_token_certain",
            "logprobs top_logprobs": f"{_PROBABLE} read::test_logprobs_are_asked_for_as_they_are_natively",
            "response_format response_format.type": f"{_FORM} chat::test_an_answer_can_be_any_json_object",
            "response_format.json_schema response_format.json_schema.schema": _FORM,
            "tools": f"{_CALL} client::test_a_tool_that_the_model_calls_by_itself",
            "tool_choice": f"{_CALL} client::test_a_named_function_is_called"
            " client::test_no_tool_is_shown_where_none_is_wanted",
            "parallel_tool_calls": "made::test_without_parallel_calls_only_the_first_is_given",
            "functions function_call": f"{_OLD_TOOLS} {_OLD_CALLED}",
            "reasoning_effort": f"{_EFFORT} {_THOUGHT}",
            "reasoning reasoning.effort": _EFFORT,
            "modalities": f"{_IGNORED} {_NAMED}",
            "user store metadata service_tier": _IGNORED,
        },
        "response": {
            "id object model system_fingerprint choices usage": _ANSWER,
            "created": f"{_ANSWER} made::test_answers_that_go_on_at_once_keep_their_indices_and_roles",
            "choices.index choices.message choices.message.role choices.message.content": _ANSWER,
            "choices.finish_reason": f"{_ANSWER} {_CALL}",
            "choices.message.reasoning": _THOUGHT,
            "choices.message.tool_calls choices.message.tool_calls.id choices.message.tool_calls.index": _CALL,
            "choices.message.tool_calls.type choices.message.tool_calls.function": _CALL,
            "choices.message.tool_calls.function.name choices.message.tool_calls.function.arguments": _CALL,
            "choices.message.function_call": _OLD_CALLED,
            "choices.logprobs choices.logprobs.content choices.logprobs.content.token": _PROBABLE,
            "choices.logprobs.content.logprob choices.logprobs.content.bytes": _PROBABLE,
            "choices.logprobs.content.top_logprobs": _PROBABLE,
            "usage.prompt_tokens usage.completion_tokens usage.total_tokens": f"{_ANSWER} {_SEVERAL}",
            "chunk.id chunk.object chunk.created chunk.model chunk.system_fingerprint chunk.choices": _STREAM,
            "chunk.usage": _USAGE,
            "chunk.choices.index chunk.choices.delta chunk.choices.finish_reason": _STREAM,
            "chunk.choices.delta.role chunk.choices.delta.content": _STREAM,
            "chunk.choices.delta.reasoning": _THOUGHT,
            "chunk.choices.delta.tool_calls": _CALL_PIECE,
            "chunk.choices.delta.function_call": _FUNCTION_PIECE,
            "chunk.choices.logprobs": _PROBABLE,
            "error error.message error.type error.param error.code error.hint": _ERROR,
        },
        "behaviour": {
            "reproducible outputs": "chat::test_a_seed_makes_an_answer_come_again",
            "vision": _IMAGE,
            "JSON mode": "chat::test_an_answer_can_be_any_json_object client::test_a_json_object",
            "a stream ends with [DONE]": _STREAM,
            "calls are whole in one chunk": _CALL_PIECE,
            "image URLs are refused with what to do": "client::test_an_image_that_cannot_be_seen_is_refused",
            "an error in mid-stream is an event": "chat::test_an_error_in_mid_stream_is_the_last_event",
            "ids are not used twice": "chat::test_ids_are_not_used_twice",
            "who leaves takes all answers along": "chat::test_who_leaves_takes_all_answers_along",
            "a pydantic object comes back": "client::test_parse_gives_a_pydantic_object",
        },
    },
    "POST /v1/completions": {
        "request": {
            "model": f"{_TEXT} {_REFUSED}",
            "prompt": f"{_TEXT} {_ORDER} completions::test_a_prompt_can_be_token_ids",
            "suffix": f"{_PASSED} completions::test_a_suffix_is_what_comes_behind",
            "stream stream_options stream_options.include_usage": _TEXTS,
            "max_tokens": f"{_TEXT} {_REFUSED}",
            "n": f"{_ORDER} {_REFUSED}",
            "best_of": f"{_REFUSED} read::test_best_of_as_many_as_are_given_is_no_wish",
            "echo": f"{_ORDER} made::test_an_echo_stands_in_front_of_every_answer_to_its_prompt",
            "seed": f"{_ORDER} read::test_a_completion_asks_for_each_prompt_n_times",
            "stop": f"texts::test_stop_words_and_seeds {_REFUSED}",
            "temperature top_p frequency_penalty presence_penalty": _PENALTIES,
            "logit_bias": "extra::test_a_bias_makes_a_token_of_a_completion_certain",
            "logprobs": f"{_OLD_PROBABLE} {_PASSED}",
            "response_format": f"{_PASSED} extra::test_a_completion_keeps_to_a_format",
            "user": "extra::test_a_user_changes_nothing_of_a_completion",
        },
        "response": {
            "id object created model system_fingerprint choices": _TEXT,
            "choices.text choices.index choices.finish_reason": _TEXT,
            "choices.logprobs choices.logprobs.tokens choices.logprobs.token_logprobs": _OLD_PROBABLE,
            "choices.logprobs.top_logprobs": _OLD_PROBABLE,
            "choices.logprobs.text_offset": f"{_OLD_PROBABLE} made::test_tokens_have_offsets_in_characters"
            "_however_they_are_streamed",
            "usage": f"{_TEXT} {_TEXTS}",
        },
        "behaviour": {
            "no prompt loads the model": "completions::test_without_a_prompt_the_model_is_loaded",
            "the prompt goes through the template": _TEXT,
            "a stream ends with the reason": "made::test_a_completion_streams_text_and_a_last_empty_one",
            "an error in mid-stream is an event": "texts::test_an_error_in_mid_stream_reaches_the_client",
        },
    },
    "POST /v1/embeddings": {
        "request": {
            "model": f"{_VECTORS} {_NO_VECTOR}",
            "input": f"{_VECTORS} openai::test_a_single_text_is_a_list_of_one openai::test_inputs_can_be_token_ids"
            " read::test_texts_are_told_from_token_ids",
            "encoding_format": f"openai::test_base64_holds_the_same_numbers {_NO_VECTOR}",
            "dimensions": f"openai::test_dimensions_shorten_the_vectors {_NO_VECTOR}",
            "user": "openai::test_base64_holds_the_same_numbers",
        },
        "response": {
            "object data model usage data.object data.embedding data.index": _VECTORS,
            "usage.prompt_tokens usage.total_tokens": _VECTORS,
        },
        "behaviour": {"vectors are those of /api/embed": _VECTORS},
    },
    "GET /v1/models": {
        "response": {"object data data.id data.object data.created data.owned_by": _MODELS},
        "behaviour": {"without models the list is empty": "openai::test_without_models_the_list_is_empty"},
    },
    "GET /v1/models/:model": {
        "response": {
            "id object created owned_by": _MODELS,
            "error": _NO_MODEL,
        },
        "behaviour": {
            "404 for a model that is not there": _NO_MODEL,
            "a name may have slashes": "openai::test_a_name_with_slashes_is_found_however_it_is_written",
        },
    },
    "every route below /v1": {
        "behaviour": {
            "an API key makes no difference": "openai::test_an_api_key_and_a_form_content_type_make_no_difference",
            "an empty body is said in OpenAI's shape": "openai::test_a_missing_body_is_said_in_openais_shape",
            "the type of an error follows from its status": "read::test_the_type_of_an_error_follows_from_its_status",
            "a hint stands beside the text": "read::test_a_hint_stands_beside_the_text",
        },
    },
}
"""Route, part, fields or a sentence, tests."""
