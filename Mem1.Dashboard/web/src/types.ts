// What /api answers; docs/dashboard.md describes it. Fields that older runs lack are optional.

export interface Ledger { pending: number; leased: number; buffered: number; consumed: number; quarantined: number; total: number }

/** Seconds, added up over episodes. */
export interface TimeBudget { generating: number; environment: number; waiting: number }

export interface Worker {
  id: string; applied_version: number; credit: number; leases: number; connected_seconds: number; silent_seconds: number;
  running_episodes: number | null; generated_tokens: number | null; tokens_per_second: number | null; unacknowledged: number | null;
  resident_bytes?: number | null; pull_seconds?: number | null; budget?: TimeBudget | null;
}

export interface ClusterNode {
  address: string; incarnation: string; roles: string[]; worker: string | null; membership: string; reachable: boolean;
  report_seconds: number | null;
}

/** Why tasks are, or are not, leased now. */
export interface Admission {
  pending: number; parked: number; leased: number; workers: number; fresh_workers: number; free_places: number;
  needs_version: number | null; binds: string;
}

export interface State {
  source: 'live' | 'folder' | 'demo'; phase: string; share: number; detail: string; phase_since: string; update: number;
  policy_version: number | null; learner_address: string | null;
  ledger: Ledger | null; workers: Worker[] | null; nodes?: ClusterNode[] | null;
  worker: Record<string, number> | null; actors_by_state: Record<string, number> | null;
  staleness_bound: number | null; paused: boolean; concurrency_limit: number | null;
  admission?: Admission | null; waiting_seconds?: number | null;
  /** Of a dashboard that follows a learner elsewhere: since when nothing has come from it. */
  unreachable_since?: string; unreachable_why?: string;
  dropped: { browser: number; telemetry: number; history: number };
}

export interface Run {
  name: string; source: string; folder: string; config: string; evaluation: Evaluation | null; instance: string; page: boolean;
  commands?: string[];
}

export interface Evaluation {
  update: number;
  before: { exact_match: Record<string, number> } | null;
  after: { exact_match: Record<string, number> } | null;
}

export interface Advisory { level: Level; code: string; text: string; evidence: string }

export type Level = 'info' | 'warning' | 'error';

export interface LogEvent { index: number; time: string; level: Level; kind: string; text: string; actor: string; episode: string }

export interface Actor {
  path: string; parent: string; kind: string; state: string; detail: string; state_seconds: number; age_seconds: number;
  restarts: number; last_failure: string | null;
  mailbox: number | null; oldest_seconds: number | null; messages_per_second: number | null;
}

export interface Span { kind: string; turn: number; ago_seconds: number; seconds: number; policy_version: number | null }

export interface Episode {
  id: string; worker: string; attempt: number; turn: number | null; state: string; age_seconds: number; spans: Span[];
}

export interface TrajectorySummary {
  index: number; update: number; episode_id: string; reward: number; end: string; turns: number; objectives: number;
  exact_match: number; peak_tokens: number; replay: boolean;
}

export interface Turn {
  internal_state: string; action: string; information: string;
  context_tokens: number; generated_tokens: number; observation_tokens: number;
  mean_log_prob?: number | null; policy_version?: number | null;
  state_tokens?: number; discarded_tokens?: number;
  generated_ids?: number[]; observation_ids?: number[]; generated_pieces?: string[];
  log_probs?: number[]; policy_versions?: number[]; values?: (number | null)[] | null; advantages?: number[] | null;
}

export interface Trajectory {
  update: number; episode_id: string; task_id: string; reward: number; end: string; exact_match: number[]; f1: number[];
  answer: string; prompt: string; prompt_tokens: number; layout?: string; turns: Turn[];
}

export interface Quarantined { task_id: string; reasons: string[] }
