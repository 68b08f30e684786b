"""Ollama's own API row by row; see ``surface`` for how to read it."""

from __future__ import annotations

from typing import Final

__all__ = ["NATIVE"]

_PIECES_GENERATE = "native::test_a_generate_streams_one_line_a_piece_and_a_final_one"
_PIECES_CHAT = "native::test_a_chat_streams_one_line_a_piece_and_a_final_one"
_COUNTS = "native::test_counts_are_positive_integers_that_add_up"
_METRICS = "total_duration load_duration prompt_eval_count prompt_eval_duration eval_count eval_duration"
_LOGPROBS = "fields::test_probabilities_of_tokens_come_where_they_are_asked_for"
_RENDERED = "prompts::test_a_rendered_generate_is_one_object_without_counts"
_PROMPT = "prompts::test_a_generate_has_the_prompt_that_its_fields_say"
_FILLED = "capabilities::test_a_template_with_a_suffix_fills_in_between"
_EVERY_OPTION = "fields::test_every_documented_option_is_taken"
_LOADED = "fields::test_how_a_model_is_loaded_changes_nothing_of_its_answer"
_CUT = "sampling::test_the_cheap_cut_draws_what_llama_cpp_draws_from_the_whole_vocabulary"
_PENALTIES = "sampling::test_penalties_are_those_of_llama_cpp"
_KEEP_ALIVE = "native::test_a_keep_alive_is_a_number_of_seconds_or_a_go_duration native::test_forever_is_some_centuries"
_SHIFT = "fields::test_an_answer_whose_context_must_not_be_shifted_ends_where_it_is_full"
_REFUSAL = "models::test_a_refusal_has_ollamas_text_and_status"
_SHOWN = "show::test_a_model_with_everything_shows_everything"
_LISTED = "models::test_the_list_tells_what_ollamas_list_tells"
_RUNNING = "making::test_what_is_loaded_is_told_with_the_time_that_it_has_left"
_PULLED = "transfers::test_a_pull_tells_every_step_and_its_bytes"
_TRANSFERRED = "transfers::test_without_a_stream_the_last_step_is_the_answer"
_PLAIN = "transfers::test_plain_http_has_to_be_asked_for"
_PUSHED = "trip::test_a_push_tells_every_layer_and_the_registry_has_them_all"
_NOT_A_NAME = "transfers::test_a_name_that_is_none_is_refused_first"
_TYPES = "transfers::test_fields_have_their_types"
_CALLED = "called::test_a_required_call_comes_whatever_the_seed"
_CALLS = "prompts::test_tools_calls_and_results_are_in_the_prompt"
_HEAD = "models::test_a_head_is_a_get_without_body"
_MISSING = "native::test_an_empty_body_is_missing"
_UNKNOWN = "native::test_a_model_that_is_not_there_gets_each_routes_own_text"
_EMBEDDED = "embed::test_an_embedding_has_ollamas_fields"
_OLDER = "embed::test_the_older_route_gives_the_vector_as_the_model_does"
_SEED = "native::test_the_same_seed_gives_the_same_answer_and_another_seed_another"
_CALL_STREAM = "called::test_a_streamed_call_comes_whole_before_the_final_object"
_CALL_IDS = "prompts::test_calls_keep_their_ids_and_numbers"
_FORM_TYPE = "native::test_a_form_content_type_as_curl_sends_it_makes_no_difference"
_DROPPED = "truncation::test_the_oldest_messages_are_left_out_and_counted"
_SEEN = "vision::test_answers_depend_on_the_image vision::test_an_image_of_the_history_is_still_seen"
_FAILS = "native::test_a_template_that_fails_is_an_error_and_the_server_lives"
_KILLED = "busy::test_a_model_process_that_is_killed_ends_the_answer_with_an_error_and_no_other"
_UNLOADED = (
    "native::test_asking_nothing_to_be_kept_alive_for_no_time_unloads_the_model"
    " native::test_an_unloaded_model_is_gone_and_comes_back_when_asked"
)

NATIVE: Final = {
    "GET /": {"behaviour": {"says that Ollama is running": "models::test_the_root_says_that_ollama_is_running"}},
    "HEAD /": {"behaviour": {"the headers of a GET": _HEAD}},
    "GET /api/version": {"response": {"version": "models::test_the_version_is_the_packages"}},
    "HEAD /api/version": {"behaviour": {"the headers of a GET": _HEAD}},
    "POST /api/generate": {
        "request": {
            "model": f"{_UNKNOWN} fields::test_the_model_is_told_as_it_was_asked_for",
            "prompt": f"{_PROMPT} native::test_a_generate_is_a_chat_with_one_question",
            "suffix": f"prompts::test_a_suffix_stands_behind_the_place_to_fill {_FILLED}",
            "images": "vision::test_answers_depend_on_the_image vision::test_two_images_are_two_in_their_order",
            "think": "prompts::test_thinking_is_opened_in_the_prompt"
            " called::test_thinking_of_a_generate_has_a_field_of_its_own",
            "format": "structured::test_generate_keeps_to_the_format",
            "system": f"{_PROMPT} native::test_a_system_text_changes_the_prompt",
            "template": f"{_PROMPT} native::test_a_template_in_a_request_makes_the_prompt",
            "stream": "native::test_a_single_generate_is_the_stream_in_one_object"
            " native::test_streaming_is_what_happens_unless_it_is_refused",
            "raw": f"{_PROMPT} native::test_raw_is_the_text_itself",
            "keep_alive": _KEEP_ALIVE,
            "context": "native::test_a_context_takes_the_conversation_on",
            "truncate": "truncation::test_a_single_prompt_says_what_was_cut",
            "shift": _SHIFT,
            "logprobs": _LOGPROBS,
            "top_logprobs": f"{_LOGPROBS} fields::test_more_alternatives_than_there_may_be_are_refused",
            "_debug_render_only": _RENDERED,
            "options": f"{_EVERY_OPTION} native::test_an_option_of_the_wrong_type_gets_ollamas_text",
            "options.num_keep": f"{_EVERY_OPTION} engine::test_a_shift_drops_half_of_what_is_not_kept",
            "options.seed": _SEED,
            "options.num_predict": "native::test_num_predict_is_the_number_of_tokens",
            "options.top_k options.top_p options.min_p options.typical_p": f"{_EVERY_OPTION} {_CUT}",
            "options.temperature": f"{_CUT} native::test_temperature_zero_needs_no_seed",
            "options.repeat_last_n": f"{_PENALTIES} sampling::test_the_window_holds_the_last_tokens_and_no_others",
            "options.repeat_penalty": f"{_EVERY_OPTION} {_PENALTIES}",
            "options.presence_penalty options.frequency_penalty": f"{_EVERY_OPTION} {_PENALTIES}",
            "options.stop": "native::test_a_stop_string_ends_the_answer_before_it",
            "options.penalize_newline options.numa": f"{_EVERY_OPTION} wire::test_unknown_names_are_passed_over",
            "options.num_ctx": f"{_EVERY_OPTION} embed::test_options_hold_for_embeddings_too",
            "options.num_batch options.num_gpu options.main_gpu options.use_mmap": f"{_EVERY_OPTION} {_LOADED}",
            "options.num_thread": f"{_EVERY_OPTION} wire::test_an_integer_option_of_another_type_is_refused",
            "options.logit_bias": "sampling::test_a_bias_is_added_before_everything"
            " engine::test_a_token_can_be_banned_and_another_forced",
        },
        "response": {
            "model created_at response done": _PIECES_GENERATE,
            "thinking": "called::test_thinking_of_a_generate_has_a_field_of_its_own",
            "done_reason": "native::test_num_predict_is_the_number_of_tokens"
            " native::test_an_answer_that_ends_by_itself_stops",
            "context": "native::test_a_context_takes_the_conversation_on",
            _METRICS: f"{_COUNTS} {_PIECES_GENERATE}",
            "prompt_dropped_count": "truncation::test_a_single_prompt_says_what_was_cut",
            "logprobs logprobs.token logprobs.logprob logprobs.bytes logprobs.top_logprobs": _LOGPROBS,
            "logprobs.top_logprobs.token logprobs.top_logprobs.logprob logprobs.top_logprobs.bytes": _LOGPROBS,
            "_debug_info _debug_info.rendered_template": _RENDERED,
            "_debug_info.image_count": "prompts::test_images_are_tags_in_the_prompt_and_counted",
        },
        "behaviour": {
            "no prompt loads the model, in one object": "native::test_asking_nothing_loads_the_model"
            " fields::test_without_a_prompt_there_is_one_object_however_it_is_asked_for",
            "no prompt and keep_alive 0 unloads it": _UNLOADED,
            "raw gives no context": "native::test_raw_is_the_text_itself",
            "raw excludes template, system and context": "native::test_raw_does_not_mix_with_what_makes_a_prompt",
            "an error before the first line has its status": _FAILS,
            "an error in mid-stream is a line": _KILLED,
            "a capability that is missing is 400": "native::test_what_the_model_cannot_do_is_said",
            "a keep_alive that is none gets Go's text": "native::test_a_bad_keep_alive_gets_gos_text",
            "a full queue is 503": "busy::test_a_full_queue_is_said_at_once",
        },
    },
    "POST /api/chat": {
        "request": {
            "model": f"{_UNKNOWN} fields::test_the_model_is_told_as_it_was_asked_for",
            "messages messages.role messages.content": "prompts::test_messages_have_roles_and_contents",
            "messages.thinking": "prompts::test_what_an_answer_thought_goes_back_to_the_model",
            "messages.images": _SEEN,
            "messages.tool_calls messages.tool_calls.function": _CALLS,
            "messages.tool_calls.function.name messages.tool_calls.function.arguments": _CALLS,
            "messages.tool_calls.id messages.tool_calls.function.index": _CALL_IDS,
            "messages.tool_name messages.tool_call_id": "prompts::test_a_result_says_whose_it_is",
            "tools": f"{_CALLS} {_CALLED}",
            "tool_choice": f"prompts::test_a_demanded_call_is_opened_in_the_prompt {_CALLED}"
            " prompts::test_no_tool_is_in_the_prompt_when_none_may_be_chosen",
            "think": "prompts::test_thinking_is_opened_in_the_prompt called::test_thinking_is_told_from_content",
            "format": "structured::test_a_chat_keeps_to_the_format structured::test_json_is_one_object",
            "options": f"{_EVERY_OPTION} native::test_an_option_of_the_wrong_type_gets_ollamas_text",
            "stream": "native::test_a_single_chat_is_the_stream_in_one_object"
            " native::test_streaming_is_what_happens_unless_it_is_refused",
            "keep_alive": _KEEP_ALIVE,
            "truncate": "truncation::test_truncation_that_is_not_wanted_is_an_error",
            "shift": _SHIFT,
            "logprobs": f"{_LOGPROBS} fields::test_probabilities_of_a_stream_come_with_its_pieces",
            "top_logprobs": f"{_LOGPROBS} fields::test_more_alternatives_than_there_may_be_are_refused",
            "_debug_render_only": "prompts::test_a_rendered_chat_is_one_object_without_counts",
        },
        "response": {
            "model created_at message message.role message.content done": _PIECES_CHAT,
            "message.thinking": "called::test_thinking_is_told_from_content",
            "message.tool_calls message.tool_calls.id message.tool_calls.function": _CALLED,
            "message.tool_calls.function.index message.tool_calls.function.name": _CALLED,
            "message.tool_calls.function.arguments": _CALLED,
            "done_reason": "native::test_num_predict_is_the_number_of_tokens"
            " native::test_an_answer_that_ends_by_itself_stops",
            _METRICS: f"{_COUNTS} {_PIECES_CHAT}",
            "prompt_dropped_messages prompt_dropped_count": _DROPPED,
            "logprobs": _LOGPROBS,
            "_debug_info": "prompts::test_a_rendered_chat_is_one_object_without_counts",
        },
        "behaviour": {
            "no message loads the model": "native::test_asking_nothing_loads_the_model",
            "no message and keep_alive 0 unloads it": _UNLOADED,
            "calls stream whole, before the final object": _CALL_STREAM,
            "history is what the prompt begins with": "called::test_calls_and_results_in_the_history_reach_the_prompt",
            "a model's own messages come first": "models::test_a_models_messages_come_before_the_requests",
            "the same seed gives the same answer": _SEED,
            "the oldest messages give way": _DROPPED,
            "who leaves frees the model": "busy::test_who_leaves_in_mid_stream_frees_the_sequence",
        },
    },
    "POST /api/create": {
        "request": {
            "model name": f"making::test_a_new_model_is_named_by_either_field {_REFUSAL}",
            "from": "show::test_a_model_tells_its_parent",
            "files": "models::test_a_model_is_made_from_an_uploaded_file"
            " converted::test_a_folder_of_safetensors_becomes_the_model_that_it_is"
            " making::test_files_are_what_a_model_without_a_parent_is_made_of",
            "adapters": "making::test_an_adapter_is_part_of_the_model",
            "template": "template::test_a_given_template_drives_the_model",
            "license": "making::test_a_licence_is_a_text_or_several",
            "system": "models::test_a_models_system_text_is_what_it_is_told",
            "parameters": "models::test_a_models_parameters_hold_until_a_request_says_otherwise",
            "messages": "models::test_a_models_messages_come_before_the_requests",
            "stream": "making::test_a_create_tells_every_step_or_the_last_one",
            "quantize": "smaller::test_the_steps_are_ollamas",
            "quantization": "smaller::test_a_type_that_nobody_makes_is_refused_before_anything_is_done",
        },
        "response": {
            "status": "making::test_a_create_tells_every_step_or_the_last_one",
            "digest total completed": "smaller::test_the_steps_are_ollamas",
        },
        "behaviour": {
            "a known chat template becomes a template": "template::test_a_known_chat_template_becomes_a_template"
            "_with_stop_texts",
            "licences add up": "models::test_licences_add_up_and_what_is_not_given_stays",
            "an old model is replaced": "models::test_creating_over_a_name_replaces_the_model",
            "a broken file makes no model": "models::test_a_broken_file_makes_no_model_and_leaves_the_old_one",
            "a folder becomes a small model in one request": "converted::test_a_folder_becomes_a_small_model_in_one"
            "_request",
            "a file that is missing is named": "converted::test_a_folder_without_a_file_that_it_needs_is_refused",
            "the type that a model has is no work": "smaller::test_the_type_that_a_model_has_already_is_no_work",
            "what is quantized is not so again": "smaller::test_what_is_quantized_already_is_not_quantized_again",
            "who leaves calls the work off": "smaller::test_who_leaves_in_mid_quantization_leaves_no_process_and_no"
            "_file converted::test_who_leaves_in_mid_conversion_leaves_no_process_and_no_file",
            "a kill leaves the old model": "killed::test_a_kill_in_mid_quantization_leaves_the_old_model_and_nothing"
            "_else killed::test_a_kill_in_mid_conversion_leaves_the_old_model_and_nothing_else",
            "paths of files are relative": "models::test_file_paths_must_be_relative_whether_or_not_they_exist",
            "the digests are Ollama's": "models::test_the_same_request_gives_the_digests_that_ollama_gives",
        },
    },
    "HEAD /api/blobs/:digest": {
        "behaviour": {"200 where it is, 404 where not": "blobs::test_a_blob_is_stored_once"},
    },
    "POST /api/blobs/:digest": {
        "behaviour": {
            "201 when it is stored, 200 when it is there": "blobs::test_a_blob_is_stored_once",
            "400 for another digest": "blobs::test_what_does_not_match_its_digest_is_not_kept",
            "400 for what is no digest": "blobs::test_a_digest_that_is_none_is_refused",
        },
    },
    "GET /api/tags": {
        "response": {
            "models models.name models.model models.size models.digest models.details models.capabilities": _LISTED,
            "models.modified_at": "making::test_the_list_has_digest_size_and_age_of_every_model_the_newest_first",
            "models.details.parent_model models.details.format models.details.family models.details.families": _LISTED,
            "models.details.parameter_size models.details.quantization_level": _LISTED,
            "models.details.context_length models.details.embedding_length": _LISTED,
        },
        "behaviour": {
            "an empty store is an empty list": "models::test_an_empty_store_is_an_empty_list",
            "the newest comes first": "making::test_the_list_has_digest_size_and_age_of_every_model_the_newest_first",
            "damaged models are left out": "models::test_a_damaged_manifest_hides_one_model_and_stops_nothing",
        },
    },
    "HEAD /api/tags": {"behaviour": {"the headers of a GET": _HEAD}},
    "POST /api/show": {
        "request": {
            "model name": f"show::test_the_older_field_names_the_model_where_the_newer_does_not {_REFUSAL}",
            "verbose": "show::test_a_verbose_show_has_every_array",
            "system options": "show::test_a_request_changes_what_is_shown_and_nothing_else",
        },
        "response": {
            "license template system messages capabilities": _SHOWN,
            "modelfile": "show::test_the_modelfile_would_make_the_model_again",
            "parameters": "show::test_parameters_are_a_column_of_names_and_one_of_values",
            "details": "show::test_a_model_tells_its_parent",
            "model_info": "show::test_the_file_is_told_key_by_key",
            "projector_info": "show::test_a_projector_is_told_beside_the_model",
            "tensors tensors.name tensors.type tensors.shape": "show::test_a_tensor_has_name_type_and_shape",
            "modified_at": "show::test_modified_at_is_the_age_of_the_manifest_in_local_time",
        },
        "behaviour": {
            "arrays are null unless verbose": "show::test_arrays_of_the_file_are_left_out",
            "capabilities follow from the template": "capabilities::test_a_template_adds_what_it_can",
        },
    },
    "POST /api/copy": {
        "request": {"source destination": f"models::test_a_copy_is_a_model_of_its_own {_REFUSAL}"},
        "behaviour": {
            "a destination that exists is replaced": "models::test_a_copy_replaces_what_has_its_name",
            "a name that is none is quoted": "making::test_a_name_that_is_none_is_quoted_as_go_quotes_it",
        },
    },
    "DELETE /api/delete": {
        "request": {"model name": f"making::test_a_model_is_deleted_by_either_field {_REFUSAL}"},
        "behaviour": {
            "200 without a body": "models::test_a_copy_is_a_model_of_its_own",
            "blobs go with their last model": "models::test_deleting_takes_the_blobs_that_nobody_else_needs",
            "a loaded model is unloaded": "models::test_a_deleted_model_that_was_loaded_is_unloaded",
            "an empty body is missing": "native::test_an_empty_body_is_missing_from_a_delete_too",
        },
    },
    "POST /api/pull": {
        "request": {
            "model name": f"{_PULLED} {_NOT_A_NAME}",
            "insecure": f"{_PULLED} {_PLAIN} {_TYPES}",
            "stream": f"{_TRANSFERRED} {_TYPES}",
            "username password": "transfers::test_user_and_password_of_old_clients_mean_nothing",
        },
        "response": {"status digest total completed": _PULLED},
        "behaviour": {
            "what came is not fetched again": "pulls::test_a_killed_server_fetches_only_the_rest_when_it_is_back",
            "two pulls share one download": "pulls::test_two_clients_that_pull_the_same_share_one_download",
            "the last one that leaves cancels": "pulls::test_the_last_one_that_leaves_ends_the_download",
            "unused layers are removed": "trip::test_a_tag_that_has_moved_on_is_followed_and_the_old_layers_go",
            "what a registry refuses": "transfers::test_a_registry_that_does_not_have_it_is_told_in_ollamas_words",
        },
    },
    "POST /api/push": {
        "request": {
            "model name": f"{_PUSHED} {_NOT_A_NAME}",
            "insecure": f"{_PUSHED} {_PLAIN} {_TYPES}",
            "stream": f"{_TRANSFERRED} {_TYPES}",
            "username password": "transfers::test_user_and_password_of_old_clients_mean_nothing",
        },
        "response": {"status digest total completed": _PUSHED},
        "behaviour": {
            "a model that is not here": "trip::test_a_model_that_is_not_here_cannot_be_pushed",
        },
    },
    "POST /api/embed": {
        "request": {
            "model": "embed::test_a_model_that_is_not_there_gets_each_routes_own_text"
            " embed::test_the_model_is_known_in_any_spelling_and_named_as_it_was_asked_for",
            "input": "embed::test_vectors_come_in_the_order_of_their_texts_and_are_those_of_each_text_alone"
            " embed::test_what_is_no_text_is_refused_whatever_the_model_is",
            "truncate": "embed::test_a_text_that_is_too_long_loses_its_end"
            " embed::test_a_text_that_is_too_long_is_refused_where_it_must_not_be_cut",
            "dimensions": "embed::test_fewer_dimensions_are_the_beginning_of_the_vector_at_unit_length"
            " embed::test_dimensions_that_the_model_does_not_have_are_refused",
            "options": "embed::test_options_hold_for_embeddings_too",
            "keep_alive": "embed::test_keep_alive_says_how_long_the_model_stays",
        },
        "response": {"model embeddings total_duration load_duration prompt_eval_count": _EMBEDDED},
        "behaviour": {
            "vectors have unit length": "embed::test_a_vector_has_length_one",
            "no text loads the model": "embed::test_no_text_loads_the_model",
            "texts are embedded together": "embed::test_many_texts_are_many_vectors",
            "numbers are those of float32": "embed::test_numbers_are_written_as_short_as_a_float32_can_be",
            "NaN is an error": "vectors::test_a_model_that_computes_no_number_is_an_error_of_the_server",
        },
    },
    "POST /api/embeddings": {
        "request": {
            "model": "embed::test_a_model_that_is_not_there_gets_each_routes_own_text",
            "prompt": _OLDER,
            "options": "embed::test_options_hold_for_embeddings_too",
            "keep_alive": "embed::test_keep_alive_says_how_long_the_model_stays",
        },
        "response": {"embedding": _OLDER},
        "behaviour": {
            "no prompt loads the model": "embed::test_no_text_loads_the_model",
            "the end of a long text is kept": "embed::test_the_older_route_keeps_the_end_of_a_text_that_is_too_long",
        },
    },
    "GET /api/ps": {
        "response": {
            "models models.name models.model models.context_length": "models::test_what_is_loaded_is_told",
            "models.size models.digest models.details models.expires_at models.size_vram": _RUNNING,
        },
        "behaviour": {"nothing is an empty list": "models::test_an_empty_store_is_an_empty_list"},
    },
    "GET /openapi.json": {
        "behaviour": {"describes every route": "document::test_every_route_and_verb_is_described_and_nothing_else"},
    },
    "every route": {
        "behaviour": {
            "keys match in any case": "native::test_keys_match_in_any_case_and_roles_too",
            "unknown keys are passed over": "fields::test_what_no_field_is_called_changes_nothing",
            "a null is a field that is not there": "fields::test_nulls_are_fields_that_are_not_there",
            "an empty body is missing": f"{_MISSING} embed::test_an_empty_body_is_missing",
            "bad JSON gets Go's text": "native::test_bad_json_gets_gos_text",
            "the type of a body does not matter": _FORM_TYPE,
            "the last of equal keys wins": "gojson::test_of_equal_keys_the_last_that_says_something_wins",
            "only the first value of a body counts": "gojson::test_only_the_first_value_of_a_body_counts",
            "characters of HTML are escaped": "native::test_characters_that_html_knows_leave_as_escapes",
            "another verb is 405 with Allow": "routes::test_another_method_is_405_with_those_that_are_allowed",
            "another path is 404": "routes::test_another_path_is_404",
            "a slash too many is redirected": "routes::test_a_slash_too_many_is_redirected_away",
            "a path is cleaned": "routes::test_a_path_is_cleaned_and_never_leads_to_another_server",
            "names match in any case": "models::test_names_that_differ_by_case_are_one_model",
        },
    },
}
"""Route, part, fields or a sentence, tests."""
