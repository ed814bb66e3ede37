exports.up = async (knex) => {
  const users = await knex("users").insert([...Array(10).keys()].map((n) => ({ email: `u${n}@example.com` }))).returning("id");
  await knex.batchInsert("posts", users.map(({ id }) => ({ user_id: id, body: `by ${id}`, words: ["a", "b"] })), 3);
};
exports.down = async (knex) => {
  await knex("posts").del();
  await knex("users").whereLike("email", "%@example.com").del();
};
