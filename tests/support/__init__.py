"""What tests stand on: real Postgres, and an upstream that speaks OpenAI's protocol over real HTTP and bills."""
